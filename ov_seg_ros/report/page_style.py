"""Style sheet of the HTML report."""

from __future__ import annotations

from ov_seg_ros.report import theme

_COLORS = {
    "background": theme.BACKGROUND,
    "panel": theme.PANEL,
    "line": theme.LINE,
    "text": theme.TEXT,
    "muted": theme.MUTED,
    "accent": theme.ACCENT,
    "wrong": theme.WRONG,
}

_RULES = """
* { box-sizing: border-box; }
html { color-scheme: dark; }
body { margin: 0; background: var(--background); color: var(--text);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 40px 28px 72px; }
header h1 { margin: 0; font-size: 30px; font-weight: 650; letter-spacing: -0.01em; }
header h1::before { content: ""; display: inline-block; width: 5px; height: 26px; margin-right: 14px;
  background: var(--accent); vertical-align: -3px; }
header p { margin: 6px 0 0 19px; color: var(--muted); }
h2 { margin: 56px 0 6px; font-size: 20px; font-weight: 620; }
h3 { margin: 0 0 10px; font-size: 13px; font-weight: 560; color: var(--muted); }
p.lead { margin: 0 0 18px; color: var(--muted); max-width: 78ch; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(178px, 1fr)); gap: 12px; margin: 30px 0 24px; }
.tile, .panel { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 16px 18px; }
.tile b { display: block; font-size: 28px; font-weight: 640; letter-spacing: -0.02em; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: 13px; }
.tile.bad b { color: var(--wrong); }
.panel { padding: 18px 20px; min-width: 0; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(440px, 1fr)); gap: 14px; }
.columns + .columns, .panel + .panel { margin-top: 14px; }
.columns > .panel { margin-top: 0; }
@media (max-width: 560px) { .columns { grid-template-columns: 1fr; } main { padding: 24px 14px; } }
figure { margin: 0; }
figure img { display: block; width: 100%; border-radius: 10px; }
figcaption { padding: 8px 2px 0; color: var(--muted); font-size: 13px; }
.strip { display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px; }
@media (max-width: 760px) { .strip { grid-template-columns: repeat(2, 1fr); } }
svg { display: block; width: 100%; height: auto; font-family: inherit; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { font-weight: 560; color: var(--muted); text-align: left; font-size: 13px; }
th, td { padding: 5px 8px; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.key { color: var(--muted); white-space: nowrap; vertical-align: top; width: 1%; padding-right: 22px; }
td.value { overflow-wrap: anywhere; }
.swatch { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 9px; }
.bar { position: relative; height: 8px; min-width: 90px; border-radius: 4px; background: var(--line); }
.bar i { position: absolute; inset: 0 auto 0 0; border-radius: 4px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 12px; font-size: 13px; color: var(--muted); }
.below { margin-top: 14px; }
code { display: block; padding: 12px 14px; border-radius: 8px; background: var(--background);
  border: 1px solid var(--line);
  font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
summary { padding: 8px; color: var(--muted); cursor: pointer; }
ul.notes { margin: 0; padding-left: 20px; }
footer { margin-top: 60px; color: var(--muted); font-size: 13px; }
"""


def style_sheet() -> str:
    """CSS of the page, colours from ``theme``."""
    variables = "".join(f"--{name}: {theme.hex_color(color)};" for name, color in _COLORS.items())
    return f":root {{ {variables} }}{_RULES}"
