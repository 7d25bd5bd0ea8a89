"""What the comparison's page adds to the report's style sheet."""

STYLE = """
main{max-width:1240px}
.facts{display:flex;flex-wrap:wrap;gap:6px;margin:10px 0 0;padding:0;list-style:none}
.facts li{margin:0}
.facts .state{margin:0}
.uneven{background:var(--warnpaper);color:var(--warn);border-radius:10px;padding:8px 14px;margin:12px 0 0}
table.side small{display:block;font-size:11.5px;line-height:1.35;font-weight:400;color:var(--quiet)}
table.side.side{width:auto;min-width:100%}
table.side.side th[scope=row]{position:sticky;left:0;background:var(--card);z-index:1;min-width:96px;max-width:190px;
overflow-wrap:anywhere}
table.side.side th,table.side.side td{padding:7px 12px 7px 0;white-space:normal}
table.side.side td.number,table.side.side th.number{min-width:58px;white-space:nowrap}
table.side.side th.network{text-align:left;font-weight:400;padding-bottom:0;border-top:0}
table.side.side thead tr+tr th{border-top:0;padding-top:2px}
table.side.side th.number{vertical-align:bottom;color:var(--ink)}
table.side.side td.words{min-width:300px}
table.side.side td.none{color:var(--quiet)}
td.best{color:var(--accent);font-weight:700}
.sheets{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,270px),1fr));gap:18px 16px}
.sheets.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr))}
.sheets figcaption,.codes figcaption{padding:0 2px 6px}
.sheets figcaption b,.codes figcaption b{color:var(--ink)}
.codes{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,350px),1fr));gap:18px 16px}
.flips{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:0 14px;margin-top:12px}
.flips table.side.side{width:100%;table-layout:fixed}
.flips th[scope=col]:first-child{width:118px}
.flips td img{display:block;width:100%;height:auto;max-width:200px;border-radius:3px}
.flips thead th{position:sticky;top:0;background:var(--card);z-index:2;color:var(--ink);white-space:normal}
.flips thead th:first-child{left:0;z-index:3}
.by-model{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,540px),1fr));gap:20px 28px}
.losses{min-width:0}
.losses h3{font-size:15px;margin:0 0 8px}
.losses h3 small{font-weight:400;color:var(--quiet)}
.losses .plots{grid-template-columns:repeat(auto-fill,minmax(min(100%,240px),1fr));gap:12px}
.losses .ticks text{font-size:15px}
.panel.wide,.flips{--edge:rgba(0,0,0,.22);background:
linear-gradient(to right,var(--card) 40%,transparent) 0 0/48px 100% no-repeat local,
linear-gradient(to left,var(--card) 40%,transparent) 100% 0/48px 100% no-repeat local,
linear-gradient(to right,var(--edge),transparent) 0 0/14px 100% no-repeat scroll,
linear-gradient(to left,var(--edge),transparent) 100% 0/14px 100% no-repeat scroll,var(--card)}
@media(max-width:1000px){.flips{overflow-x:auto}.flips table.side.side{table-layout:auto}
.flips td img{width:100px}.flips thead th{position:static}
.flips thead th:first-child{position:sticky}}
@media(max-width:600px){
table.side.side thead{display:table-header-group}table.side.side tr{display:table-row}
table.side.side th,table.side.side td,table.side.side td:last-child{display:table-cell;padding:6px 10px 6px 0;
border-top:1px solid var(--rule)}
table.side.side thead th,table.side.side tbody tr:first-child>*{border-top:0}
table.side.side th[scope=row]{min-width:100px;max-width:112px;font-size:12.5px}
table.side.side.stack thead{display:none}
table.side.side.stack,table.side.side.stack tbody,table.side.side.stack tr{display:block}
table.side.side.stack tr{padding:8px 0;border-top:1px solid var(--rule)}
table.side.side.stack tr:first-child{border-top:0}
table.side.side.stack th[scope=row]{display:block;position:static;max-width:none;border:0;padding:2px 0;font-size:14px}
table.side.side.stack td,table.side.side.stack td:last-child{border:0;padding:2px 0}
table.side.side.stack td::before{content:attr(data-name);color:var(--quiet);font-weight:400}
.panel table.side.side.stack td{display:flex;flex-wrap:wrap;justify-content:flex-end;gap:0 10px;white-space:normal}
.panel table.side.side.stack td::before{margin-right:auto;text-align:left}
.panel table.side.side.stack td small{width:100%}
.flips table.side.side.stack tr{display:grid;grid-template-columns:1fr 1fr;gap:4px 14px}
.flips table.side.side.stack th[scope=row]{grid-column:1/-1}
.flips table.side.side.stack td{display:block;font-size:12px;overflow-wrap:anywhere}
.flips table.side.side.stack td img{width:100%}
}
"""
