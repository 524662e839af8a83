"""Compares the checks of the conformance suites with direct.txt, check by check.

  compare.py record       prints the checks of a run without a gateway in the form of direct.txt
  compare.py compare LABEL…   prints a table and every difference; exits 1 on one that expected.txt does not list, and on
                          a line of expected.txt (of these labels) that no longer holds

A label is what server_suites.sh and client_suite.sh were given: the kind of upstream (`http-legacy`), or `client`,
`client-legacy`, `client-modern`. A line of direct.txt is `suite scenario check result…`, the suite `server/EDITION` or
`client/EDITION`; a line of expected.txt is `label/EDITION scenario check result… # reason`, with the results that the gate
gets instead (`absent` where the check was not made).
"""

import json
import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = Path(os.environ["CONFORMANCE_HOME"]) / "out"
SERVER_SUITES = ("0.1.16", "2025-11-25", "2026-07-28")
CLIENT_SUITES = ("2025-11-25", "2026-07-28")
# Notes of the suite, not verdicts.
NOT_A_RESULT = ("INFO", "SKIPPED")

Key = tuple[str, str, str]  # suite, scenario, check


def editions(label: str) -> tuple[str, ...]:
    return CLIENT_SUITES if label.startswith("client") else SERVER_SUITES


def side(label: str) -> str:
    """Which part of direct.txt a label is compared with."""
    return "client" if label.startswith("client") else "server"


def read_run(label: str, prefix: str) -> dict[Key, list[str]]:
    """The results of every check of a run, as suites `prefix/EDITION`."""
    checks: dict[Key, list[str]] = {}
    for edition in editions(prefix):
        folder = RESULTS / f"{label}.{edition}"
        for file in sorted(folder.rglob("checks.json")):
            name = str(file.parent.relative_to(folder))
            scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", name)
            for check in json.loads(file.read_text()):
                if check["status"] not in NOT_A_RESULT:
                    key = (f"{prefix}/{edition}", scenario, check["id"])
                    checks.setdefault(key, []).append(check["status"])
    return {key: sorted(results) for key, results in checks.items()}


def read_list(file: Path) -> dict[Key, list[str]]:
    """A checked-in list; what follows a `#` is for people."""
    checks: dict[Key, list[str]] = {}
    for line in file.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            suite, scenario, check, *results = words
            checks[suite, scenario, check] = results
    return checks


def count(checks: dict[Key, list[str]], suite: str, result: str) -> int:
    return sum(results.count(result) for key, results in checks.items() if key[0] == suite)


def compare(labels: list[str]) -> bool:
    direct, expected = read_list(HERE / "direct.txt"), read_list(HERE / "expected.txt")
    if not direct:
        raise SystemExit("direct.txt is empty: run baseline.sh")
    print(f"{'suite':<28}{'direct':>8}{'gate':>8}{'failed':>8}{'expected':>10}")
    verdicts = [compare_label(label, direct, expected) for label in labels]
    print("conformance: as expected" if all(verdicts) else "conformance: NOT as expected")
    return all(verdicts)


def compare_label(
    label: str, direct: dict[Key, list[str]], expected: dict[Key, list[str]]
) -> bool:
    suites = {f"{side(label)}/{edition}": f"{label}/{edition}" for edition in editions(label)}
    base = {
        (suites[suite], *rest): results
        for (suite, *rest), results in direct.items()
        if suite in suites
    }
    listed = {key: results for key, results in expected.items() if key[0] in suites.values()}
    run = read_run(label, label)
    absent = ["absent"]
    differences = {
        key: run.get(key, absent)
        for key in sorted(base.keys() | run.keys())
        if run.get(key, absent) != base.get(key, absent)
    }
    for suite in sorted(suites.values()):
        print(
            f"{suite:<28}{count(base, suite, 'SUCCESS'):>8}{count(run, suite, 'SUCCESS'):>8}"
            f"{count(run, suite, 'FAILURE'):>8}{sum(key[0] == suite for key in listed):>10}"
        )
    good = True
    for key, results in differences.items():
        if listed.get(key) != results:
            good = False
            print("new difference:", *key, *results, "  direct:", *base.get(key, absent))
    for key, results in listed.items():
        if key not in differences:
            good = False
            print("no longer a difference, take it out of expected.txt:", *key, *results)
    return good


def main() -> int:
    action, *labels = sys.argv[1:]
    if action == "compare":
        return 0 if compare(labels) else 1
    for label, prefix in (("direct", "server"), ("direct-client", "client")):
        for key, results in sorted(read_run(label, prefix).items()):
            print(*key, *results)
    return 0


sys.exit(main())
