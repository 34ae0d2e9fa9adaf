// The style sheets of reports and charts. Categories use the colours of Okabe
// and Ito ("Color Universal Design", 2008), which colour-blind readers tell
// apart; every colour is also named in a legend or tooltip.
#include "results/svg.h"

namespace troupe::results {

std::string_view chart_style() {
  return R"css(
:root{--ink:#1c2530;--soft:#5b6876;--line:#d7dde4;--page:#fff;--panel:#f6f8fa;
--idle:#e6eaef;--bad:#c62828;--compute:#0072b2;--forward:#56b4e9;
--backward:#0072b2;--tp:#e69f00;--cp:#d9c500;--pp:#cc79a7;--dp:#d55e00;
--optimizer:#009e73;--switch:#7b4fa3;--other:#8a95a1;--a:#0072b2;--b:#d55e00;
--k0:#dce9f5;--k1:#fbe8d3;--k2:#dcf0e6;--k3:#f3e0ec;--k4:#f5f0c4;--k5:#e5e5ee}
@media screen and (prefers-color-scheme:dark){
:root{--ink:#e6ebf1;--soft:#9aa7b5;--line:#38424e;--page:#12171d;
--panel:#1a2129;--idle:#2a333d;--bad:#ff7b72;--compute:#3d9bd6;
--forward:#7cc7f2;--backward:#2f86c4;--tp:#f0b429;--cp:#f0e442;--pp:#dd94bb;
--dp:#f07f3c;--optimizer:#2bb891;--switch:#a883cc;--other:#8a95a1;--a:#56b4e9;
--b:#f07f3c;--k0:#22354a;--k1:#4a3520;--k2:#1f3d31;--k3:#452c3e;--k4:#413d18;
--k5:#33333f}}
.chart{max-width:100%;height:auto;display:block;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,
sans-serif}
.chart text{fill:var(--ink);font-size:12px}
.chart .small{font-size:10.5px;fill:var(--soft)}
.chart .tiny{font-size:8.5px;fill:var(--soft)}
.chart .strong{font-weight:600}
.chart .onbar{font-size:10px;fill:#fff;pointer-events:none}
.chart .onlight{font-size:10px;fill:#10202c;pointer-events:none}
@media screen and (prefers-color-scheme:dark){.chart .onbar{fill:#0b1620}}
.chart .alarm{fill:var(--bad);font-weight:600}
.page{fill:var(--page)}
.grid{stroke:var(--line);stroke-width:1}
.axis{stroke:var(--soft);stroke-width:1}
.limit{stroke:var(--ink);stroke-width:2}
.over{fill:none;stroke:var(--bad);stroke-width:2}
.idle{fill:var(--idle)}
.compute{fill:var(--compute)}.tp{fill:var(--tp)}.cp{fill:var(--cp)}
.pp{fill:var(--pp)}.bubble{fill:var(--idle)}.dp{fill:var(--dp)}
.optimizer{fill:var(--optimizer)}.switch{fill:var(--switch)}
.other{fill:var(--other)}
.forward{fill:var(--forward)}.backward{fill:var(--backward)}
.parameters{fill:var(--compute)}.gradients{fill:var(--dp)}
.moments{fill:var(--optimizer)}.activations{fill:var(--tp)}
.workspace{fill:var(--pp)}.reserve{fill:var(--other)}
.measured{fill:var(--optimizer)}.interpolated{fill:var(--forward)}
.derived{fill:var(--tp)}.roofline{fill:var(--pp)}
.k0{fill:var(--k0)}.k1{fill:var(--k1)}.k2{fill:var(--k2)}.k3{fill:var(--k3)}
.k4{fill:var(--k4)}.k5{fill:var(--k5)}
.edge0{fill:var(--compute)}.edge1{fill:var(--dp)}.edge2{fill:var(--optimizer)}
.edge3{fill:var(--pp)}.edge4{fill:var(--tp)}.edge5{fill:var(--other)}
.curve-a,.curve-b,.curve-ideal{fill:none;stroke-width:2;stroke:var(--a)}
.curve-b{stroke:var(--b)}
.curve-ideal{stroke:var(--soft);stroke-dasharray:5 4;stroke-width:1.5}
.dot-a{fill:var(--a)}.dot-b{fill:var(--b)}.dot-ideal{fill:var(--soft)}
)css";
}

std::string_view page_style() {
  return R"css(
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",
Arial,sans-serif}
main{max-width:1260px;margin:0 auto;padding:28px 24px 40px}
h1{font-size:25px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:17px;margin:36px 0 8px;padding-top:10px;
border-top:1px solid var(--line)}
p{margin:4px 0 10px}.chart+p{margin-top:12px}.soft{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));
gap:12px;margin:20px 0 0}
.card{background:var(--panel);border:1px solid var(--line);border-radius:8px;
padding:12px 14px}
.card b{display:block;font-size:23px;font-weight:650;line-height:1.25;
font-variant-numeric:tabular-nums}
.card .name{font-size:13px;font-weight:600}
.card .soft{font-size:12px;line-height:1.35}
.alarm-box,.warn-box{border-radius:8px;padding:10px 14px;margin:14px 0;
border:1px solid var(--bad);border-left-width:6px;overflow-wrap:anywhere}
.alarm-box b{color:var(--bad)}
.warn-box{border-color:var(--tp)}
.warn-box ul{margin:4px 0;padding-left:20px}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 16px;margin:6px 0;
padding:0;font-size:13px}
.legend svg{margin-right:6px;vertical-align:-1px}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:13px;width:100%;
font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 10px;border-bottom:1px solid var(--line);
white-space:nowrap}
th{color:var(--soft);font-weight:600}
th.l,td.l{text-align:left}
td.wrap{white-space:normal;overflow-wrap:anywhere}
.bad{color:var(--bad);font-weight:600}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
font-size:12.5px;overflow-wrap:anywhere}
pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;
padding:10px 14px;white-space:pre-wrap;overflow-wrap:anywhere;margin:6px 0}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));
gap:8px 28px}
@media print{main{max-width:none;padding:0}h2{break-after:avoid}
.chart,.card,tr{break-inside:avoid}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
)css";
}

}  // namespace troupe::results
