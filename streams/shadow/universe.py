"""What exists, by name, straight from the JSON form of `market.instruments`."""

from typing import Any

USD_LIKE = ("cash", "stable", "synthetic_dollar")
MOVING_TOGETHER = ("major", "alt", "liquid_staking", "governance")
NANOSECONDS = 1_000_000_000
YEAR_S = 31_536_000.0
YEAR_NS = 31_536_000_000_000_000

OPTIONS = ("option", "inverse_option")
FUTURES = ("future", "inverse_future")
PERPETUALS = ("perpetual", "inverse_perpetual")
DERIVATIVES = (*PERPETUALS, *FUTURES, *OPTIONS)
LOTS_OF_USD = ("inverse_perpetual", "inverse_future")  # of all others a lot is so much of the underlying
INVERSE = (*LOTS_OF_USD, "inverse_option")

Message = dict[str, Any]
InstrumentKey = tuple[str, str]  # (venue, name)


class Universe:
    """Definitions as they came; the later one of a name counts."""

    def __init__(self) -> None:
        self.assets: dict[str, Message] = {"USD": {"kind": "asset", "name": "USD", "asset_class": "cash", "sources": {}}}
        self.chains: dict[str, Message] = {}
        self.venues: dict[str, Message] = {}
        self.instruments: dict[InstrumentKey, Message] = {}

    def define(self, message: Message) -> None:
        name = message["name"]
        match message["kind"]:
            case "asset":
                self.assets[name] = message
            case "chain":
                self.chains[name] = message
            case "venue":
                self.venues[name] = message
            case "instrument":
                self.instruments[message["venue"], name] = message

    def asset_class(self, asset: str) -> str:
        return str(self.assets[asset]["asset_class"])

    def redemption(self, asset: str) -> tuple[str, float] | None:
        """The asset that this one can be redeemed for, and how much of it one unit gives."""
        into = self.assets[asset].get("redemption_asset")
        return None if into is None else (into, self.assets[asset].get("redemption_rate", 1.0))

    def group_of(self, asset: str) -> str | None:
        """A group is named after its own asset; cash has none."""
        if self.asset_class(asset) == "cash":
            return None
        end = asset
        while (redemption := self.redemption(end)) is not None:
            end = redemption[0]
        return asset if self.asset_class(end) == "cash" else end

    def groups(self) -> list[str]:
        """In the order of first definition."""
        found: list[str] = []
        for asset in self.assets:
            group = self.group_of(asset)
            if group is not None and group not in found:
                found.append(group)
        return found

    def prior_correlation(self, g: str, h: str, prior: float) -> float:
        if g == h:
            return 1.0
        return prior if all(self.asset_class(asset) in MOVING_TOGETHER for asset in (g, h)) else 0.0

    def cash_unit(self, asset: str) -> float:
        return 1e-6 if self.asset_class(asset) in USD_LIKE else 1e-9

    def chain_of(self, key: InstrumentKey) -> str:
        return str(self.venues[key[0]]["chain"])

    def contract(self, key: InstrumentKey) -> str:
        return str(self.instruments[key]["contract"])

    def spots(self) -> list[InstrumentKey]:
        return [key for key in self.instruments if self.contract(key) == "spot"]

    def eligible(self, asset: str, chain: str) -> bool:
        """Whether the asset's definition counts it as collateral there."""
        chains = self.assets[asset].get("eligible_chains")
        return chains is None or chain in chains

    def layer_of(self, chain: str) -> str:
        return str(self.chains[chain].get("messaging_layer", "wormhole"))

    def layers(self) -> list[str]:
        return list(dict.fromkeys(self.layer_of(chain) for chain in self.chains))

    def same_place(self, j: str, k: str) -> bool:
        """No way to go: the same chain, or two that share a sequencer."""
        group = self.chains[j].get("atomic_group")
        return j == k or (group is not None and group == self.chains[k].get("atomic_group"))
