"""How the page looks: a sheet of CSS with a light and a dark palette, and a few lines of script.

The pictures take their ink, grid and paper from the same variables (see ``inspect/style.py``).
"""

STYLE = """
:root{--paper:#fff;--page:#f6f7f9;--ink:#1c2430;--muted:#667085;--line:#dfe3ea;--accent:#2f6fd6;
--soft:#e8f0fd;--good:#1c8a5a;--goodsoft:#e2f5ec;--bad:#c0483a;--badsoft:#fdeae7;--grey:#98a2b3;
--heat:47,158,110;--font:Inter,ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,
'Helvetica Neue',Arial,sans-serif;--mono:ui-monospace,'SF Mono','Cascadia Mono',Menlo,Consolas,
monospace}
@media (prefers-color-scheme:dark){:root{--paper:#171b22;--page:#0f1217;--ink:#e8ebf0;
--muted:#98a2b3;--line:#2b323d;--accent:#6ea3ff;--soft:#1b2a44;--good:#4fcf97;--goodsoft:#14352a;
--bad:#ff8a7a;--badsoft:#40201c;--grey:#667085}}
*{box-sizing:border-box}
html{scroll-behavior:smooth;scroll-padding-top:4rem}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.55 var(--font);
-webkit-font-smoothing:antialiased}
main{max-width:1020px;margin:0 auto;padding:1.2rem 1.2rem 5rem}
nav{position:sticky;top:0;z-index:5;display:flex;gap:1.4rem;justify-content:center;
padding:.7rem 1rem;background:color-mix(in srgb,var(--page) 86%,transparent);
backdrop-filter:blur(10px);border-bottom:1px solid var(--line);font-size:.9rem}
nav a{color:var(--muted);text-decoration:none}nav a:hover,nav a:focus{color:var(--accent)}
header{padding:2.2rem 0 .5rem}
.brand{margin:0 0 .4rem;color:var(--accent);font-weight:700;letter-spacing:.02em}
h1{font-size:clamp(1.8rem,4.6vw,2.9rem);line-height:1.12;letter-spacing:-.022em;margin:0 0 .8rem;
text-wrap:balance}
h2{font-size:1.65rem;letter-spacing:-.015em;margin:0 0 .6rem}
h3{font-size:1.06rem;margin:1.8rem 0 .5rem}
.lead{font-size:1.14rem;color:var(--muted);max-width:46rem;margin:0 0 1.1rem;text-wrap:pretty}
.intro,section>p{color:var(--muted);max-width:46rem;margin:.2rem 0 1rem}
section{margin-top:3.4rem}
small,.small{display:block;color:var(--muted);font-size:.83rem;font-weight:400}
ul.facts{list-style:none;display:flex;flex-wrap:wrap;gap:.4rem 1.4rem;padding:0;margin:0 0 1.4rem;
color:var(--muted);font-size:.92rem}ul.facts b{color:var(--ink);font-weight:600}
ul.tiles{list-style:none;display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));
gap:.9rem;padding:0;margin:1.2rem 0 0}
ul.tiles li{background:var(--paper);border:1px solid var(--line);border-radius:14px;
padding:1rem 1.1rem}
ul.tiles strong{display:block;font-size:2.25rem;line-height:1.15;letter-spacing:-.03em;
font-variant-numeric:tabular-nums}
ul.tiles span{display:block;font-weight:600;font-size:.95rem}
ul.tiles small{margin-top:.15rem}
.videos{display:grid;grid-template-columns:repeat(auto-fill,minmax(300px,1fr));gap:1rem}
figure{margin:0}
.card{background:var(--paper);border:1px solid var(--line);border-radius:14px;overflow:hidden}
.card video{display:block;width:100%;height:auto;background:#11141a}
.card figcaption{padding:.7rem .9rem .85rem;font-size:.9rem;color:var(--muted);line-height:1.45}
.card figcaption b{color:var(--ink);display:block}
.badge{float:right;margin-left:.6rem;padding:.06rem .55rem;border-radius:99px;font-size:.78rem;
font-weight:600}
.badge.good{background:var(--goodsoft);color:var(--good)}
.badge.bad{background:var(--badsoft);color:var(--bad)}
ul.pairs{list-style:none;padding:0;margin:0;display:grid;gap:.7rem;
grid-template-columns:repeat(auto-fit,minmax(270px,1fr))}
ul.pairs li{background:var(--paper);border:1px solid var(--line);border-radius:14px;
padding:.85rem 1.1rem;color:var(--muted);font-size:.92rem}
ul.pairs b{display:block;color:var(--ink);margin-bottom:.25rem}
.picture{background:var(--paper);border:1px solid var(--line);border-radius:14px;
padding:1.1rem 1.2rem 1.15rem;margin:0 0 1.1rem}
.picture h3{margin:0 0 .7rem}
.plot{overflow-x:auto}.plot svg,.plot img{display:block;width:100%;min-width:600px;height:auto}
.picture figcaption{margin-top:.8rem;color:var(--muted);font-size:.93rem;max-width:52rem}
.source{display:inline-block;color:var(--accent);background:var(--soft);border-radius:6px;
padding:0 .5em;font-size:.82rem;white-space:nowrap}
.scroll{overflow-x:auto;background:var(--paper);border:1px solid var(--line);border-radius:14px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.95rem}
th,td{text-align:left;padding:.68rem .95rem;border-top:1px solid var(--line);vertical-align:middle}
thead th{border-top:0;color:var(--muted);font-size:.82rem;font-weight:500;white-space:nowrap}
tbody th{font-weight:600;min-width:11rem}
.num{text-align:right;white-space:nowrap}
tr.control th,tr.control td b{color:var(--muted)}
tr.highlight{background:var(--soft)}
.axis{min-width:220px}.axis span{display:inline-block;width:33.3%}
.axis span:nth-child(2){text-align:center}.axis span:nth-child(3){text-align:right}
.range{display:block;position:relative;height:22px;min-width:190px;background:linear-gradient(
var(--line),var(--line)) 50% 50%/1px 100% no-repeat;border-inline:1px solid var(--line)}
.range i{position:absolute;top:8px;height:6px;border-radius:3px;left:calc(var(--low)*100%);
width:calc((var(--high) - var(--low))*100%);background:var(--tone,var(--ink));opacity:.28}
.range b{position:absolute;top:4px;width:14px;height:14px;margin-left:-7px;border-radius:50%;
left:calc(var(--rate)*100%);background:var(--tone,var(--ink));border:2px solid var(--paper)}
tr.control .range{--tone:var(--grey)}tr.result .range{--tone:#5b6b86}
tr.highlight .range{--tone:var(--accent)}
.heat{background:rgba(var(--heat),calc(var(--rate)*.3))}
details{background:var(--paper);border:1px solid var(--line);border-radius:12px;margin:.6rem 0;
padding:0 1rem}
summary{cursor:pointer;padding:.75rem 0;font-weight:600}
pre{overflow:auto;max-height:26rem;background:var(--page);border:1px solid var(--line);
border-radius:10px;padding:.8rem 1rem;font:13px/1.5 var(--mono)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1.2rem;margin:.2rem 0 1rem}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
ol.stages{list-style:none;display:flex;gap:3px;padding:0;margin:.6rem 0 1.6rem}
ol.stages li{flex:max(calc(var(--share)*100),9) 1 0;min-width:0;background:var(--soft);
padding:.45rem .6rem;font-size:.84rem;color:var(--muted);overflow:hidden}
ol.stages li:first-child{border-radius:10px 0 0 10px}
ol.stages li:last-child{border-radius:0 10px 10px 0}
ol.stages b{display:block;color:var(--ink);white-space:nowrap;overflow:hidden;
text-overflow:ellipsis}
@media (max-width:640px){main{padding:.8rem .8rem 4rem}section{margin-top:2.6rem}
ol.stages{flex-direction:column}ol.stages li{border-radius:8px!important}
.picture{padding:.9rem}nav{gap:1rem}}
@media print{nav{display:none}body{background:#fff}.picture,.card,tr{break-inside:avoid}}
:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
""".strip()

SCRIPT = """
(() => {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  document.querySelectorAll("video").forEach((video) => {
    video.controls = false;  // while it plays by itself, the bar would hide the caption
    video.tabIndex = 0;
    for (const event of ["pointerenter", "focus"])
      video.addEventListener(event, () => video.controls = true);
    video.addEventListener("pointerleave", () => video.controls = false);
  });
  const watch = new IntersectionObserver((entries) => entries.forEach(({target, isIntersecting}) =>
    isIntersecting ? target.play().catch(() => {}) : target.pause()), {threshold: 0.5});
  document.querySelectorAll("video").forEach((video) => watch.observe(video));
})();
""".strip()
