"""Compares the checks of the conformance suites with direct.txt, check by check.

  compare.py record SERVER CLIENT    prints the checks of a run in the form of direct.txt
  compare.py compare SERVER CLIENT   prints a table and every difference; exits 1 on one that expected.txt does not list,
                                     and on a line of expected.txt that no longer holds

SERVER and CLIENT are the labels that server_suites.sh and client_suite.sh were given. A line of direct.txt is
`suite scenario check result…`; a line of expected.txt is `suite scenario check result… # reason`, with the results that
the gate gets instead (`absent` where the check was not made).
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


def read_run(server: str, client: str) -> dict[Key, list[str]]:
    """The results of every check of a run."""
    folders = [(f"server/{suite}", RESULTS / f"{server}.{suite}") for suite in SERVER_SUITES]
    folders += [(f"client/{suite}", RESULTS / f"{client}.{suite}") for suite in CLIENT_SUITES]
    checks: dict[Key, list[str]] = {}
    for suite, folder in folders:
        for file in sorted(folder.rglob("checks.json")):
            name = str(file.parent.relative_to(folder))
            scenario = re.sub(r"^server-|-\d{4}-\d\d-\d\dT[\d-]+Z$", "", name)
            for check in json.loads(file.read_text()):
                if check["status"] not in NOT_A_RESULT:
                    checks.setdefault((suite, scenario, check["id"]), []).append(check["status"])
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


def compare(run: dict[Key, list[str]]) -> bool:
    direct, expected = read_list(HERE / "direct.txt"), read_list(HERE / "expected.txt")
    if not direct:
        raise SystemExit("direct.txt is empty: run baseline.sh")
    absent = ["absent"]
    differences = {
        key: run.get(key, absent)
        for key in sorted(direct.keys() | run.keys())
        if run.get(key, absent) != direct.get(key, absent)
    }
    print(f"{'suite':<20}{'direct':>8}{'gate':>8}{'failed':>8}{'expected':>10}")
    for suite in sorted({key[0] for key in direct}, reverse=True):
        print(
            f"{suite:<20}{count(direct, suite, 'SUCCESS'):>8}{count(run, suite, 'SUCCESS'):>8}"
            f"{count(run, suite, 'FAILURE'):>8}{sum(key[0] == suite for key in expected):>10}"
        )
    good = True
    for key, results in differences.items():
        if expected.get(key) != results:
            good = False
            print("new difference:", *key, *results, "  direct:", *direct.get(key, absent))
    for key, results in expected.items():
        if key not in differences:
            good = False
            print("no longer a difference, take it out of expected.txt:", *key, *results)
    print("conformance: as expected" if good else "conformance: NOT as expected")
    return good


def main() -> int:
    action, server, client = sys.argv[1:]
    run = read_run(server, client)
    if action == "compare":
        return 0 if compare(run) else 1
    for key, results in sorted(run.items()):
        print(*key, *results)
    return 0


sys.exit(main())
