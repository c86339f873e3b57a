"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const box = document.getElementById("tl"), svg = box.querySelector("svg"), tip = document.getElementById("tip");
  const NS = "http://www.w3.org/2000/svg", ROW = 16, GAP = 3, HEAD = 22;
  let a = Math.min(D.from, D.total - 1), b = D.total, width = 0, mark = null;

  const clock = ms => {
    const s = Math.max(0, ms) / 1000, m = Math.floor(s / 60), r = s - m * 60, fine = (b - a) < 20000;
    return m + ":" + (r < 10 ? "0" : "") + (fine ? r.toFixed(2) : Math.floor(r));
  };
  const wall = ms => new Date(D.began + ms).toISOString().replace("T", " ").slice(0, 23) + " UTC";
  const el = (name, at, parent) => {
    const e = document.createElementNS(NS, name);
    for (const k in at) e.setAttribute(k, at[k]);
    parent.appendChild(e);
    return e;
  };
  const left = () => width < 640 ? 0 : 220;
  const X = t => left() + (t - a) / (b - a) * (width - left() - 6);
  const T = x => a + (x - left()) / (width - left() - 6) * (b - a);
  const told = new Map();

  function hover(node, text, t0, t1) {
    told.set(node, text + "\n" + clock(t0) + (t1 > t0 ? " to " + clock(t1) + " (" + ((t1 - t0) / 1000).toFixed(2) + " s)" : "") + "\n" + wall(t0));
  }

  function draw() {
    width = box.clientWidth;
    told.clear();
    tip.style.display = "none";
    svg.textContent = "";
    const defs = el("defs", {}, svg), pat = el("pattern", {id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)"}, defs);
    el("rect", {width: 2.4, height: 5, style: "fill:var(--bad)"}, pat);
    const narrow = left() === 0;
    let y = HEAD;
    const body = el("g", {}, svg);
    for (const g of D.groups) {
      const lanes = g.lanes;
      if (!lanes.length) continue;
      y += 8;
      el("text", {x: 6, y: y + 11, class: "g"}, body).textContent = g.name;
      y += 16;
      for (const l of lanes) {
        if (narrow) { el("text", {x: 6, y: y + 11, class: "t"}, body).textContent = l.name; y += 14; }
        else el("text", {x: 12 + 8 * (l.depth || 0), y: y + ROW - 4, class: "t"}, body).textContent = l.name;
        lane(l, y, body);
        y += (l.height || ROW) + GAP;
      }
    }
    const h = y + 10;
    svg.setAttribute("viewBox", "0 0 " + width + " " + h);
    svg.setAttribute("height", h);
    const axis = el("g", {}, svg);
    const steps = [100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000, 120000, 300000, 600000, 1800000, 3600000];
    const step = steps.find(s => (width - left()) / ((b - a) / s) >= 70) || 7200000;
    for (let t = Math.ceil(a / step) * step; t <= b; t += step) {
      el("line", {x1: X(t), x2: X(t), y1: HEAD - 4, y2: h, class: "axis"}, axis);
      el("text", {x: X(t) + 2, y: 13, class: "t"}, axis).textContent = clock(t);
    }
    svg.insertBefore(axis, body);
    if (mark) el("rect", {x: X(mark[0]) - 2, y: HEAD - 4, width: Math.max(6, X(mark[1]) - X(mark[0]) + 4), height: h, style: "fill:none;stroke:var(--bad);stroke-width:1.5;stroke-dasharray:4 3"}, svg);
  }

  // lane draws only what is in view, and never more pieces than there are pixels.
  function lane(l, y, parent) {
    const H = l.height || ROW, x0 = left(), x1 = width - 6;
    if (l.band) {
      // One column a pixel or a bucket, whichever is wider; height is the
      // logarithm of the latency, 1 ms to 10 s.
      const px = v => Math.min(1, Math.max(.04, Math.log10(Math.max(1, v)) / 4)) * (H - 1);
      const n = l.band.max.length, from = Math.max(0, Math.floor(a / l.band.step)), to = Math.min(n, Math.ceil(b / l.band.step));
      const per = Math.max(1, Math.ceil((to - from) / Math.max(1, x1 - x0)));
      let top = "", mid = "";
      for (let i = from; i < to; i += per) {
        let mx = 0, p = 0;
        for (let j = i; j < Math.min(to, i + per); j++) { mx = Math.max(mx, l.band.max[j]); p = Math.max(p, l.band.p50[j]); }
        if (!mx) continue;
        const xa = Math.max(x0, X(i * l.band.step)), xb = Math.min(x1, X((i + per) * l.band.step));
        top += `M${xa.toFixed(1)} ${y + H}v${-px(mx).toFixed(1)}H${xb.toFixed(1)}V${y + H}z`;
        mid += `M${xa.toFixed(1)} ${y + H}v${-px(p).toFixed(1)}H${xb.toFixed(1)}V${y + H}z`;
      }
      const back = el("rect", {x: x0, y: y, width: Math.max(0, x1 - x0), height: H, fill: "transparent"}, parent);
      el("path", {d: top, class: "band", "pointer-events": "none"}, parent);
      el("path", {d: mid, class: "band50", "pointer-events": "none"}, parent);
      told.set(back, t => {
        const i = Math.floor(t / l.band.step);
        return l.name + "\n" + clock(i * l.band.step) + " to " + clock((i + 1) * l.band.step) + ": " + (l.band.good[i] || 0) + " good, " + (l.band.bad[i] || 0) + " bad" +
          (l.band.good[i] ? "; of the good median " + l.band.p50[i] + " ms, longest " + l.band.max[i] + " ms" : "") + "\n" + wall(t);
      });
    }
    for (const i of l.bars || []) {
      if (i.b < a || i.a > b) continue;
      const xa = Math.max(x0, X(i.a)), xb = Math.min(x1, X(i.b)), inset = i.cls === "b-asked" || i.cls === "b-cordon" ? 0 : 2;
      const r = el("rect", {x: xa, y: y + inset, width: Math.max(1.5, xb - xa), height: H - 2 * inset, class: i.cls}, parent);
      hover(r, i.tip, i.a, i.b);
      if (i.lo !== undefined && X(i.hi) - X(i.lo) > 3) {
        const m = y + H / 2;
        el("path", {d: `M${Math.max(x0, X(i.lo))} ${m - 4}v8M${Math.max(x0, X(i.lo))} ${m}H${Math.min(x1, X(i.hi))}m0 -4v8`, class: "b-err"}, parent);
      }
      if (i.label && xb - xa > 7 * i.label.length) el("text", {x: xa + 4, y: y + H - 5, "pointer-events": "none", class: "l " + i.cls}, parent).textContent = i.label;
    }
    const step = Math.max(1, Math.floor((l.dots || []).filter(d => d.t >= a && d.t <= b).length / 1500));
    let k = 0;
    for (const d of l.dots || []) {
      if (d.t < a || d.t > b) continue;
      if (d.cls === "d-ok" && step > 1 && k++ % step) continue; // never thins out what went wrong
      const x = X(d.t), yy = y + H - 3 - (d.y || 0) * (H - 6);
      const shape = d.cls === "d-miss" ? el("path", {d: `M${x - 4} ${y + 2}l8 8m0 -8l-8 8`, class: d.cls}, parent)
        : d.cls === "d-lost" ? el("path", {d: `M${x - 5} ${y + H - 2}l5 -11 5 11z`, class: d.cls}, parent)
        : el("circle", {cx: x, cy: yy, r: 2.4, class: d.cls}, parent);
      hover(shape, d.tip, d.t, d.t);
    }
  }

  function show(from, to) {
    const pad = Math.max(200, (to - from) * .05);
    a = Math.max(0, from - pad); b = Math.min(D.total, to + pad);
    if (b - a < 50) b = a + 50;
    draw();
  }

  let down = null, sel = null;
  const at = e => e.clientX - svg.getBoundingClientRect().left;
  svg.addEventListener("pointerdown", e => { down = at(e); });
  svg.addEventListener("pointermove", e => {
    const x = at(e);
    if (down !== null && Math.abs(x - down) > 4) {
      if (!sel) sel = el("rect", {y: 0, height: svg.getAttribute("height"), style: "fill:var(--phase);opacity:.2"}, svg);
      sel.setAttribute("x", Math.min(x, down)); sel.setAttribute("width", Math.abs(x - down));
    }
    say(e);
  });
  function say(e) {
    let text = told.get(e.target);
    if (typeof text === "function") text = text(T(at(e)));
    if (!text) { tip.style.display = "none"; return; }
    tip.textContent = text; tip.style.display = "block";
    const r = box.getBoundingClientRect(), x = e.clientX - r.left, y = e.clientY - r.top;
    tip.style.left = Math.max(0, Math.min(x + 12, box.clientWidth - tip.offsetWidth - 4)) + "px";
    tip.style.top = (y + 16) + "px";
  }
  window.addEventListener("pointerup", e => {
    const from = down; down = null;
    if (sel) { const x = at(e); sel.remove(); sel = null; if (from !== null && Math.abs(x - from) > 8) show(T(Math.min(x, from)), T(Math.max(x, from))); }
    else if (e.target && svg.contains(e.target)) say(e);
  });
  window.addEventListener("pointercancel", () => { down = null; if (sel) { sel.remove(); sel = null; } });
  svg.addEventListener("pointerleave", () => { tip.style.display = "none"; });
  const all = () => { mark = null; a = 0; b = D.total; draw(); };
  svg.addEventListener("dblclick", all);
  document.getElementById("all").addEventListener("click", all);
  svg.addEventListener("keydown", e => {
    const w = b - a, move = d => { const m = Math.max(-a, Math.min(d, D.total - b)); a += m; b += m; };
    if (e.key === "ArrowRight") move(w / 5);
    else if (e.key === "ArrowLeft") move(-w / 5);
    else if (e.key === "+" || e.key === "=") { a += w / 4; b -= w / 4; }
    else if (e.key === "-") { a = Math.max(0, a - w / 2); b = Math.min(D.total, b + w / 2); }
    else if (e.key === "0") all();
    else return;
    e.preventDefault(); draw();
  });
  for (const row of document.querySelectorAll("[data-from]")) {
    const go = () => {
      mark = [+row.dataset.from, +row.dataset.to];
      const w = Math.max(20000, (mark[1] - mark[0]) * 2), m = (mark[0] + mark[1]) / 2;
      show(m - w / 2, m + w / 2);
      document.getElementById("timeline").scrollIntoView({behavior: "smooth"});
    };
    row.addEventListener("click", go);
    row.addEventListener("keydown", e => { if (e.key === "Enter") go(); });
  }
  document.getElementById("copy").addEventListener("click", async e => {
    const text = document.getElementById("rerun").textContent;
    try { await navigator.clipboard.writeText(text); e.target.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(document.getElementById("rerun")); e.target.textContent = "Press Ctrl-C"; }
  });
  window.addEventListener("resize", draw);
  window.addEventListener("beforeprint", draw);
  draw();
})();
