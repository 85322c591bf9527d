"""Outcomes counted and grouped by kind."""

from __future__ import annotations

from collections import Counter, defaultdict

from tests.drawn.running import Outcome

REFUSED = 0.03
"""The share of models that may be refused."""


class Findings:
    """Of all seeds so far."""

    def __init__(self) -> None:
        self.seeds: set[int] = set()
        self.unusable: Counter[str] = Counter()
        self.kinds: Counter[tuple[str, str]] = Counter()
        self.wrong: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        self.refused: dict[tuple[str, str], list[Outcome]] = defaultdict(list)
        self.refused_seeds: set[int] = set()
        self.seconds: Counter[str] = Counter()

    def add(self, outcome: Outcome) -> None:
        self.seeds.add(outcome.seed)
        self.seconds[outcome.check] += outcome.seconds
        if outcome.kind == "unusable":
            self.unusable[outcome.normalised] += 1
            return
        self.kinds[outcome.check, outcome.kind] += 1
        key = (outcome.check, outcome.normalised)
        if outcome.is_wrong:
            self.wrong[key].append(outcome)
        elif outcome.kind == "refused":
            self.refused[key].append(outcome)
            self.refused_seeds.add(outcome.seed)

    @property
    def used(self) -> int:
        return len(self.seeds) - sum(self.unusable.values())

    @property
    def share(self) -> float:
        return len(self.refused_seeds) / max(1, self.used)

    @property
    def is_good(self) -> bool:
        return not self.wrong and self.share <= REFUSED

    @property
    def figures(self) -> str:
        """A line of what was tried and found."""
        wrong = sorted({each.seed for found in self.wrong.values() for each in found})
        seeds = f" (seeds {', '.join(map(str, wrong))})" if wrong else ""
        return (
            f"{self.used} models of {len(self.seeds)} seeds, {sum(self.kinds.values())} checks: "
            f"{len(wrong)} models with a wrong check{seeds}; {100 * self.share:.1f} % refused"
        )

    def __str__(self) -> str:
        lines = [f"{self.used} models of {len(self.seeds)} seeds; not used: {dict(self.unusable)}"]
        for title, groups in (("refused", self.refused), ("wrong", self.wrong)):
            lines.append(f"{title}:")
            for (check, says), found in sorted(groups.items(), key=lambda item: -len(item[1])):
                seeds = ", ".join(str(each.seed) for each in found[:6])
                lines.append(f"  {len(found):5} {check}: {says}  [{seeds}]")
        counts = Counter[str]()
        for (_, kind), count in self.kinds.items():
            counts[kind] += count
        lines.append(f"checks: {dict(counts)}; seconds: { {name: round(s) for name, s in self.seconds.items()} }")
        wrong = {each.seed for found in self.wrong.values() for each in found}
        lines.append(
            f"{len(wrong)} models with a wrong check; {100 * self.share:.1f} % refused (at most {100 * REFUSED:.0f} %)"
        )
        return "\n".join(lines)
