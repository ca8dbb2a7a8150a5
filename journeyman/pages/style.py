"""The style sheet of pages, and the part of it that pictures need."""

COLOURS = """
:root { color-scheme: light dark; --page: #fcfcfb; --card: #ffffff; --ink: #17181a; --soft: #5b5f66; --line: #e3e4e6;
  --greedy: #2a78d6; --sampled: #e0752d; --needless: #4a3aa7; --kept: #2a78d6; --dropped: #e0752d;
  --right: #0b7a3b; --wrong: #b3261e; --code: #f3f4f5; --mark: #fff0b3;
  --run-0: #2a78d6; --run-1: #e0752d; --run-2: #1a8f5c; --run-3: #8a4bbd; --run-4: #c7356f; --run-5: #64748b; }
@media (prefers-color-scheme: dark) { :root { --page: #131416; --card: #1b1d20; --ink: #eceef0; --soft: #a2a8b0;
  --line: #33363b; --greedy: #5598e7; --sampled: #e58a4b; --needless: #9085e9; --kept: #5598e7; --dropped: #e58a4b;
  --right: #58c27d; --wrong: #f08a82; --code: #24272b; --mark: #5c4a00;
  --run-0: #5598e7; --run-1: #e58a4b; --run-2: #4fc08d; --run-3: #b68be0; --run-4: #ea7ba5; --run-5: #94a3b8; } }
"""
_PAGE = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); 
  font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0; }
h2 { font-size: 19px; margin: 40px 0 10px; }
h3 { font-size: 16px; margin: 0; overflow-wrap: anywhere; }
header p, section > p, article > p { color: var(--soft); margin: 4px 0 10px; max-width: 75ch; }
.ladder { display: flex; flex-wrap: wrap; gap: 12px; list-style: none; margin: 24px 0; padding: 0; }
.ladder li { flex: 1 1 150px; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 12px 16px; display: flex; flex-direction: column; }
.ladder span { color: var(--soft); font-size: 14px; }
.ladder b { font-size: 30px; line-height: 1.25; font-weight: 600; }
.ladder small { font-size: 15px; font-weight: 400; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 16px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 14px 14px 6px; }
figcaption { display: flex; flex-direction: column; margin-bottom: 6px; }
figcaption span { color: var(--soft); font-size: 14px; }
.key { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin: 0 6px 0 0; }
.key.sampled, .key.dropped { margin-left: 16px; }
.key.greedy { background: var(--greedy); }
.key.kept { background: var(--kept); }
.key.dropped { background: var(--dropped); }
.key.sampled { background: var(--sampled); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 8px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: 14px; }
tbody th { font-weight: 600; }
.words { text-align: left; white-space: normal; }
article { border-top: 1px solid var(--line); padding: 16px 0; }
.attempts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 20px; }
.attempts p { margin: 4px 0; }
.verdict { color: var(--soft); }
.verdict.right { color: var(--right); }
.verdict.wrong { color: var(--wrong); }
pre, code { font: 13.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
pre { background: var(--code); border-radius: 6px; margin: 6px 0; padding: 8px 12px; white-space: pre-wrap;
  overflow-wrap: anywhere; max-height: 22em; overflow-y: auto; }
pre.result { margin-left: 24px; background: none; border-left: 3px solid var(--line); border-radius: 0; }
mark { background: var(--mark); color: inherit; }
pre.failed { border-color: var(--wrong); }
"""

CHART = """
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 13px; }
svg .name { text-anchor: middle; fill: var(--ink); }
svg .tick { text-anchor: end; font-size: 12px; }
svg .value { text-anchor: middle; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--soft); }
svg .whisker { stroke: var(--ink); stroke-width: 1.5; fill: none; }
rect.greedy { fill: var(--greedy); }
rect.sampled { fill: var(--sampled); }
rect.needless { fill: var(--needless); }
svg .beside { text-anchor: start; fill: var(--ink); font-size: 12px; font-variant-numeric: tabular-nums; }
rect.kept { fill: var(--kept); }
rect.dropped { fill: var(--dropped); }
svg .below { text-anchor: middle; font-size: 12px; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .band { opacity: 0.18; stroke: none; }
"""
RUNS = 6
"""Colours that runs have, `run-0` and on."""
_RUNS = "".join(
    f"rect.run-{n}, circle.run-{n}, .band.run-{n} {{ fill: var(--run-{n}); }}\n"
    f".curve.run-{n} {{ stroke: var(--run-{n}); }}\n.key.run-{n} {{ background: var(--run-{n}); }}\n"
    for n in range(RUNS)
)
_VERDICTS = """
.key + .key, .legend .key { margin-left: 14px; }
.legend .key:first-child { margin-left: 0; }
td .key, th .key { margin-right: 7px; }
.verdicts { list-style: none; margin: 10px 0 0; padding: 0; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; }
.verdicts li { display: grid; grid-template-columns: minmax(150px, 1fr) 92px minmax(0, 3fr); gap: 4px 16px;
  padding: 10px 16px; border-bottom: 1px solid var(--line); align-items: baseline; }
.verdicts li:last-child { border-bottom: 0; }
.verdicts b { font-weight: 600; }
.verdicts .size { font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; text-align: right; }
.verdicts .none { color: var(--soft); font-weight: 400; }
.better { color: var(--right); }
.worse { color: var(--wrong); }
.values { overflow-wrap: anywhere; white-space: normal; text-align: left; }
.name { text-align: left; }
td small { display: block; color: var(--soft); font-size: 13px; }
.note, section > p.note { color: var(--soft); font-size: 14px; margin: 2px 0 8px; }
ul.note { padding-left: 20px; }
section > h3 { margin-top: 22px; }
summary { cursor: pointer; font-weight: 600; padding: 10px 0; }
@media (max-width: 560px) { .verdicts li { grid-template-columns: minmax(0, 1fr) auto; }
  .verdicts li > :last-child { grid-column: 1 / -1; } }
"""

STYLE = COLOURS + _PAGE + CHART + _RUNS + _VERDICTS
