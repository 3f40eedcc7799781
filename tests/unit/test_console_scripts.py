"""What the page's scripts do where no browser test gets to: orders half read, a stream that was refused, a chart's script that failed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from streams import console
from tests.patience import PATIENCE_S

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
    ran = subprocess.run([NODE, tmp_path / "test_it.js"], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
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


def test_leverage_in_words_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    run(
        """
        import assert from "node:assert";
        import { leveragePairs, loopColumns, loopKey } from "./leverage.js";
        const loop = {
          leverage: 3.68928, net_leverage: 3.68928, gross_usd: 368928, owed_usd: 268928, looped_usd: 268928, loan_to_value: 0.72894,
          own_loan_to_value: 2.68928, fall_taking_all: 0.27106, turns: 5, passed_on_usd: 0, loops: [],
          passive: { hours: 0.25, leverage_then: 2, factor: 1.84464, per_hour: 6.757 },
        };
        const said = Object.fromEntries(leveragePairs(loop));
        assert.equal(said.leverage, "3.69×");
        assert.equal(said.owed, "268,928 USD");
        assert.equal(said["owed to own collateral"], "268.9%");
        assert.equal(said["all lost by a fall of"], "27.1%");
        assert.equal(said["turns of its loop"], "5.0");
        assert.equal(said["at the marks of 15 min before"], "2.00×, since then +6.76× an hour");
        assert.ok(!("handed on as receipts" in said));
        const unknown = leveragePairs({ ...loop, leverage: null, turns: null, passive: null, fall_taking_all: null });
        assert.equal(Object.fromEntries(unknown).leverage, "–");
        assert.equal(unknown.length, 8);
        const way = { venue: "lend", owed: "STB", collateral_venue: "vault", collateral: "BTC", usd: 1234.5, way: "loop" };
        assert.deepEqual(loopColumns.map((column) => column.text(way)), ["BTC", "vault", "STB", "lend", "1,235", "yes: a loop"]);
        assert.equal(loopKey(way), "BTC/vault/STB/lend");
        """,
        tmp_path,
    )


def test_legs_in_words_say_how_far_a_venues_line_is(tmp_path: Path) -> None:
    run(
        """
        import assert from "node:assert";
        import { farText, legColumns, nearText } from "./venues.js";
        assert.equal(farText(0.0321, "lender"), "3.2% from the line of lender");
        assert.equal(farText(-0.25, "lender"), "25.0% past the line of lender");
        assert.equal(farText(null, "lender"), "past the line of lender");
        const amounts = { equity_usd: 1234.5, initial_usd: 10, maintenance_usd: null };
        const leg = { venue: "lender", rule: "aave_v3", ...amounts, distance: 0.04, verdict: "near", unknown: "" };
        assert.deepEqual(legColumns.map((column) => column.text(leg)), ["lender", "aave_v3", "1,235", "10.00", "–", "+4.0%", "near"]);
        assert.equal(legColumns.at(-1).text({ ...leg, verdict: "unknown", unknown: "not_taken" }), "not taken");
        const others = [{ ...leg, venue: "far", verdict: "clear" }, { ...leg, venue: "gone", distance: null, verdict: "past" }];
        const health = { state: "HEALTHY", legs: [leg, ...others] };
        assert.equal(nearText(health), "4.0% from the line of lender, past the line of gone");
        assert.equal(nearText({ ...health, state: "WARNING" }), "");
        assert.equal(nearText({ state: "HEALTHY" }), "");
        """,
        tmp_path,
    )
