"""The report's page: one HTML document that asks nothing of the network, in light and dark."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
:root{color-scheme:light dark;--paper:#f6f5f2;--card:#fff;--ink:#1d1f23;--quiet:#666b74;--rule:#e2e0da;--accent:#0b62a8;
--warn:#a33b00;--warnpaper:#fdf1e6;--s0:#0072b2;--s1:#d55e00;--s2:#00916a;--s3:#b8548c;--s4:#b58500;--s5:#3aa0d8;
--s6:#6b52b8;--s7:#6b6b6b}
@media(prefers-color-scheme:dark){:root{--paper:#141518;--card:#1c1e22;--ink:#e8e8ea;--quiet:#9aa0aa;--rule:#30333a;
--accent:#74b9f0;--warn:#f0a267;--warnpaper:#33251a;--s0:#5ab0e8;--s1:#f08a4b;--s2:#3fc49a;--s3:#e08fbd;--s4:#e3bd4f;
--s5:#8fd0f5;--s6:#a793ea;--s7:#b0b0b0}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","DejaVu Sans",sans-serif}
main{max-width:1120px;margin:0 auto;padding:28px 20px 56px}
h1{font-size:28px;line-height:1.2;margin:0;overflow-wrap:anywhere;letter-spacing:-.01em}
h2{font-size:18px;margin:36px 0 12px}
p{margin:6px 0}
.sub,.aside,figcaption,footer{color:var(--quiet)}
.sub{margin-top:4px;overflow-wrap:anywhere}
.aside{font-weight:400;font-size:12px}
.state{display:inline-block;border:1px solid var(--rule);border-radius:99px;padding:0 10px;margin-right:8px;
background:var(--card);color:var(--ink);font-size:13px}
.state.bad{color:var(--warn);border-color:var(--warn)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin-top:20px}
.tile,.plot,.panel{background:var(--card);border:1px solid var(--rule);border-radius:10px}
.tile{padding:10px 14px 12px;margin:0}
.tile dt{font-size:12px;color:var(--quiet);overflow-wrap:anywhere}
.tile dd{margin:0;font-size:21px;line-height:1.3;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.tile dd.words{font-size:15px;line-height:1.45;padding-top:3px}
.tile small{display:block;font-size:12px;line-height:1.35;color:var(--quiet);overflow-wrap:anywhere}
progress{appearance:none;display:block;width:100%;height:5px;margin-top:7px;border:0;border-radius:3px;background:var(--rule)}
progress::-webkit-progress-bar{background:var(--rule);border-radius:3px}
progress::-webkit-progress-value{background:var(--accent);border-radius:3px}
progress::-moz-progress-bar{background:var(--accent);border-radius:3px}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,340px),1fr));gap:16px;align-items:start}
figure{margin:0}
.faces img{display:block;width:100%;height:auto;border-radius:6px}
.faces.single{max-width:640px}
.faces.wide{max-width:884px}
.crisp img{image-rendering:pixelated}
figcaption{font-size:13px;padding:6px 2px 0;overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,430px),1fr));gap:16px}
.plot{padding:12px 14px 10px;min-width:0}
.plot figcaption{padding:0 0 4px;color:var(--ink);font-weight:600;font-size:14px}
.plot svg{display:block;width:100%;height:auto;overflow:visible}
.plot svg svg{overflow:hidden}
.grid line{stroke:var(--rule);stroke-width:1}
.ticks text{fill:var(--quiet);font-size:12px;font-variant-numeric:tabular-nums}
.mark{stroke:var(--quiet);stroke-width:1;stroke-dasharray:3 3;opacity:.7}
.line,.faint{fill:none;stroke-width:1.9;stroke-linejoin:round;stroke-linecap:round}
.faint{stroke-width:1;opacity:.3}
.label{fill:var(--quiet);font-size:10.5px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 16px;margin:6px 0 0;padding:0;font-size:12.5px}
.legend li{overflow-wrap:anywhere}
.legend b{font-variant-numeric:tabular-nums}
.legend i{display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
.panel{padding:4px 14px;overflow-x:auto}
.plots+.panel,.aside+.plots,.aside+figure,.plots+figure{margin-top:16px}
table{border-collapse:collapse;width:100%;font-size:13.5px}
th,td{text-align:left;vertical-align:top;padding:7px 14px 7px 0;border-top:1px solid var(--rule)}
td:last-child,th:first-child{overflow-wrap:anywhere}
thead th,tbody:first-child tr:first-child>*{border-top:0}
th{font-weight:600}
thead th{font-size:12px;color:var(--quiet);white-space:nowrap}
td.number,th.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
thead~tbody td:first-child{white-space:nowrap}
tr.group th{padding-top:14px}
table.metrics details{margin:0}
table.metrics summary{padding:0}
table.metrics details .panel{margin:4px 0}
@media(min-width:900px){table.metrics td:nth-child(4){white-space:nowrap}}
tr.bad{background:var(--warnpaper)}
tr.bad td{color:var(--warn)}
tr.gone td{opacity:.55}
code,pre{font:13px/1.6 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{margin:0;padding:8px 0;white-space:pre-wrap;overflow-wrap:anywhere}
pre .what{color:var(--quiet)}
details{margin-top:12px}
summary{cursor:pointer;color:var(--accent);padding:4px 0}
footer{margin-top:40px;font-size:12.5px}
@media(max-width:600px){main{padding:18px 14px 40px}h1{font-size:23px}.tiles{grid-template-columns:1fr 1fr;gap:8px}
.tile{padding:8px 11px 10px}.tile dd{font-size:18px}.plot{padding:10px 10px 8px}.ticks text{font-size:14px}
.label{font-size:13px}
table:not(.config) thead{display:none}table:not(.config) tr{display:block;padding:7px 0;
border-top:1px solid var(--rule)}
table:not(.config) tr:first-child{border-top:0}table:not(.config) td{display:inline-block;border:0;padding:0 10px 0 0}
table:not(.config) td:last-child{display:block}table.metrics .group th{display:block;border:0;padding:8px 0 0}
table.config th,table.config td{display:block;padding:1px 0}
table.config th{padding-top:7px}table.config td{border:0;padding-bottom:7px}}
@media print{body{background:#fff}.plot,.tile,figure{break-inside:avoid}}
""" + "".join(
    f".s{n}{{stroke:var(--s{n})}}i.s{n}{{background:var(--s{n})}}circle.s{n}{{fill:var(--s{n})}}" for n in range(8)
)


def document(title: str, sections: Iterable[str], more_style: str = "") -> str:
    """The whole page; `title` is escaped here, the sections are HTML already, `more_style` is added to the style sheet.

    The policy allows pictures from data: addresses and this one style sheet, by its hash, and nothing else: no script,
    no frame, no request.
    """
    style = _STYLE + more_style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{text(title)}</title>\n<style>{style}</style></head>\n<body><main>\n"
        f"{chr(10).join(section for section in sections if section)}\n</main></body></html>\n"
    )


def text(value: object) -> str:
    """Any value as HTML text: escaped, control characters and unpaired surrogates made visible."""
    shown = re.sub(
        r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]", "\N{REPLACEMENT CHARACTER}", str(value)
    )
    return escape(shown)


def section(title: str, *bodies: str) -> str:
    """A heading and what stands under it; "" where there is nothing."""
    body = "".join(bodies)
    return f"<section><h2>{text(title)}</h2>{body}</section>" if body else ""


def tile(name: str, value: str, below: str = "", *, words: bool = False) -> str:
    """One figure of the summary; `below` is HTML."""
    kind = ' class="words"' if words else ""
    extra = f"<small>{below}</small>" if below else ""
    return f'<dl class="tile"><dt>{text(name)}</dt><dd{kind}>{text(value)}{extra}</dd></dl>'


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], numbers: Sequence[int] = ()) -> str:
    """A table of escaped text in a panel: rows are (class, cells); the columns in `numbers` are set right."""
    body = []
    for kind, cells in rows:
        filled = "".join(f"<td{_number(place in numbers)}>{text(cell)}</td>" for place, cell in enumerate(cells))
        body.append(f'<tr class="{kind}">{filled}</tr>' if kind else f"<tr>{filled}</tr>")
    if not body:
        return ""
    names = "".join(f"<th{_number(place in numbers)}>{text(name)}</th>" for place, name in enumerate(head))
    return f'<div class="panel"><table><thead><tr>{names}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _number(right: bool) -> str:
    return ' class="number"' if right else ""


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    body = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in rows)
    return f'<div class="panel"><table class="config"><tbody>{body}</tbody></table></div>' if body else ""


def data_uri(kind: str, content: bytes) -> str:
    """`data:image/png;base64,…`"""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
