"""What the page's scripts do where no browser test gets to: orders half read, a stream that was refused, a chart's script that failed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from streams import console

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no node to run the page's scripts")

# Timers that are run by hand, so that nothing here waits.
TIMERS = """
import assert from "node:assert";
const timers = [];
globalThis.setTimeout = globalThis.setInterval = (call, ms) => timers.push({ call, ms });
globalThis.clearInterval = (number) => number && (timers[number - 1].call = () => {});
const settled = async () => { for (let k = 0; k < 200; k++) await null; };
const run = async (ms) => { for (const timer of timers.filter((one) => one.ms === ms)) timer.call(); await settled(); };
"""


def run(script: str, tmp_path: Path) -> None:
    shutil.copytree(Path(console.__file__).parent / "static", tmp_path, dirs_exist_ok=True)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "test_it.js").write_text(script)
    assert NODE is not None
    ran = subprocess.run([NODE, tmp_path / "test_it.js"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr


def test_only_what_was_observed_was_only_shown(tmp_path: Path) -> None:
    run(
        """
        import assert from "node:assert";
        import { fateText } from "./columns.js";
        const fate = { filled_lots: 0, ended: "", status: "", reason: "" };
        const plan = { lots: 5, expires_ns: 0, published: false };
        const text = (order, more = {}) => fateText({ order: { ...plan, ...order }, fate: { ...fate, ...more } }, 1);
        assert.equal(text({ outcome: "observed" }), "only shown");
        assert.equal(text({ outcome: "ordered" }), "out, nothing heard yet");
        assert.equal(text({ outcome: "ordered" }, { ended: "expired" }), "expired");
        assert.equal(text({ outcome: "", published: true }), "out, nothing heard yet");
        """,
        tmp_path,
    )


def test_a_refused_stream_says_why_and_is_asked_for_again(tmp_path: Path) -> None:
    run(
        TIMERS
        + """
        const sources = [];
        globalThis.EventSource = class {
          static CLOSED = 2;
          constructor() { this.calls = {}; this.readyState = 0; sources.push(this); }
          addEventListener(name, call) { this.calls[name] = call; }
          refuse() { this.readyState = 2; this.calls.error(); }
        };
        let status = 401;
        globalThis.fetch = async () => ({ ok: status === 200, status, text: async () => "no", json: async () => ({}) });
        const { connect, stream } = await import("./store.js");
        connect();
        sources[0].refuse();
        await settled();
        assert.deepEqual([stream.state, stream.status], ["refused", 401]);
        status = 200;
        await run(5000);
        assert.deepEqual([stream.state, stream.status], ["polling", 0]);
        await run(30000);
        assert.equal(sources.length, 2);
        sources[1].calls.overview({ data: "{}" });
        assert.equal(stream.state, "live");
        await run(5000);
        assert.equal(stream.state, "live", "nobody asks any more");
        """,
        tmp_path,
    )


def test_a_chart_is_drawn_after_its_script_could_not_be_loaded(tmp_path: Path) -> None:
    run(
        TIMERS
        + """
        const scripts = [];
        const element = (tag) => ({
          tag, calls: {}, isConnected: true, append() {}, remove() {}, setAttribute() {}, querySelector() {}, replaceChildren() {},
          addEventListener(name, call) { this.calls[name] = call; },
        });
        globalThis.document = { createElement: element, head: { append: (script) => scripts.push(script) }, body: {}, documentElement: {} };
        globalThis.getComputedStyle = () => ({ getPropertyValue: () => "", fontFamily: "" });
        let drawn = 0;
        globalThis.window = { Plotly: { react: async () => (drawn += 1) } };
        const { chart } = await import("./charts.js");
        const { update } = chart("a chart", 10, () => ({ traces: [], said: "" }));
        update();
        scripts[0].calls.error();
        await settled();
        update();
        await settled();
        assert.equal(scripts.length, 1, "not with each update");
        await run(10000);
        update();
        scripts[1].calls.load();
        await settled();
        assert.equal(drawn, 1);
        """,
        tmp_path,
    )
