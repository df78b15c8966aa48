"""How reports look."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #fbfbfa; --card: #ffffff; --ink: #1c2126; --soft: #5a646e; --line: #dfe3e6;
  --accent: #0072b2; --good: #00795a; --bad: #b84a00; --faint: #eef1f3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --card: #1c2024; --ink: #e6e9ec; --soft: #a3adb6; --line: #363d44;
    --accent: #6cbdf0; --good: #4cc9a0; --bad: #f09a5b; --faint: #262c31;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 68rem; padding: 1.2rem 1rem 3rem;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  color: var(--ink); background: var(--page); overflow-wrap: anywhere;
}
h1, h2, h3, h4 { line-height: 1.25; text-wrap: balance; }
h2 { font-size: 1.3rem; margin: 0 0 .6rem; }
h3 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
.kind { color: var(--soft); margin: 0 0 .4rem; font-size: .95rem; }
.verdict {
  font-size: clamp(1.15rem, 1rem + 1.3vw, 1.65rem); margin: 0; padding: .9rem 1.1rem;
  font-weight: 600; text-wrap: pretty;
  background: var(--card); border: 1px solid var(--line); border-left: .45rem solid var(--soft);
  border-radius: .4rem;
}
.verdict.gain { border-left-color: var(--good); }
.verdict.keep { border-left-color: var(--accent); }
.lead, .soft, figcaption, caption, footer { color: var(--soft); }
.lead { margin: .7rem 0 0; }
section {
  margin: 1.3rem 0 0; padding: 1rem 1.1rem 1.1rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .4rem;
}
section > :last-child { margin-bottom: 0; }
.soft { font-size: .92rem; }
footer { font-size: .85rem; margin-top: 1.5rem; }
ul.notes { margin: 0; padding-left: 1.2rem; }
ul.notes li { margin: .3rem 0; max-width: 46rem; }
.scroll { overflow-x: auto; margin: .6rem 0 1rem; }
.scroll:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .93rem; }
caption { text-align: left; padding: 0 0 .35rem; }
th, td { padding: .32rem .8rem .32rem 0; text-align: left; border-bottom: 1px solid var(--line); }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--soft); font-weight: 500; vertical-align: bottom; }
thead th { min-width: 3.5rem; max-width: 12rem; white-space: normal; }
tbody th { font-weight: 500; min-width: 6rem; max-width: 16rem; }
tr.marked th, tr.marked td { font-weight: 700; }
.number { text-align: right; white-space: nowrap; }
svg { display: block; overflow: visible; }
svg text { fill: var(--soft); font-size: 11px; }
.row {
  display: grid; grid-template-columns: minmax(7rem, 13rem) 1fr 13.5rem; gap: 0 1rem;
  align-items: center; padding: .12rem 0;
}
.row > * { min-width: 0; }
.row .told { text-align: right; font-variant-numeric: tabular-nums; font-size: .9rem; }
.row.marked .name { font-weight: 700; }
.row svg { height: 1.5rem; }
.axis svg { height: 1.4rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(14.5rem, 1fr)); gap: 1rem; }
.cards figure { margin: 0; }
.cards svg { width: 100%; max-width: 20rem; height: auto; }
figcaption { font-size: .9rem; }
figcaption b { color: var(--ink); font-weight: 600; }
.maps { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: .5rem; }
.maps figure { margin: 0; }
.maps img {
  display: block; width: 100%; height: auto; image-rendering: pixelated;
  border: 1px solid var(--line); border-radius: .2rem;
}
.example { margin: .9rem 0 1.3rem; }
.example > p { margin: 0 0 .35rem; }
.gain-text { color: var(--good); font-weight: 600; }
.loss-text { color: var(--bad); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .88rem; margin: .5rem 0; }
.legend span { display: inline-flex; align-items: center; gap: .4rem; }
.legend i {
  width: .85rem; height: .85rem; border-radius: .15rem; border: 1px solid var(--line); flex: none;
}
details { margin: .5rem 0; }
summary { cursor: pointer; color: var(--accent); }
dl.names { margin: 0; font-size: .92rem; }
dl.names dt { font-weight: 600; }
dl.names dd { margin: 0 0 .5rem; color: var(--soft); }
code { font-size: .88rem; }
@media (max-width: 40rem) {
  body { padding: .8rem .6rem 2rem; }
  section { padding: .8rem .8rem .9rem; }
  .row { grid-template-columns: 1fr auto; padding: .35rem 0 .1rem; }
  .row .track { grid-column: 1 / -1; grid-row: 2; }
  .axis .name, .axis .told { display: none; }
  .maps { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
@media print {
  body { max-width: none; background: none; }
  section, .example { break-inside: avoid; }
}
"""
