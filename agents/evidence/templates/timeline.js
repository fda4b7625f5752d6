"use strict";
// Draws who sat in which container. Data: names, and for each policy containers [node, slot, from, to],
// stays [container, function, kind, from, to], runs [container, function, start type, from, to] in seconds.
(() => {
  const box = document.getElementById("timeline");
  const data = JSON.parse(document.getElementById("timeline-data").textContent);
  const canvas = box.querySelector("canvas"), pen = canvas.getContext("2d");
  const select = box.querySelector("select"), output = box.querySelector("output");
  const ROW = 20, TOP = 22, LEFT = 64;
  const RUNS = [["GPU", "#22a47a"], ["memory", "#77b843"], ["loading", "#efc04a"], ["warm", "#ec8a3c"], ["cold", "#d2544b"]];
  const KINDS = ["held", "loading", "on the GPU"];
  const hue = (f) => (f * 137.508) % 360;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let view, policy, lanes;

  // Containers that never overlap share a lane, so that the picture is as high as the cluster was full.
  function arrange(p) {
    const order = p.containers.map((c, i) => i).sort((a, b) => p.containers[a][0] - p.containers[b][0] || p.containers[a][2] - p.containers[b][2]);
    const lane = [], ends = [];
    for (const i of order) {
      const [node, , from, to] = p.containers[i];
      let at = ends.findIndex((e) => e.node === node && e.to <= from);
      if (at < 0) { at = ends.length; ends.push({ node, to }); } else { ends[at].to = to; }
      lane[i] = at;
    }
    // Residents of one container lie on top of each other.
    const places = new Map();
    for (const s of p.stays) {
      const key = s[0], taken = places.get(key) || [];
      let at = taken.findIndex((f) => f === s[1]);
      if (at < 0) { at = taken.length; taken.push(s[1]); }
      places.set(key, taken);
      s.place = at % 4;
    }
    return { lane, nodes: ends.map((e) => e.node) };
  }

  function show(name) {
    policy = data.policies.find((p) => p.name === name);
    lanes = arrange(policy);
    view = [0, policy.shown_s];
    draw();
  }

  function clock(s) {
    const whole = Math.max(0, Math.round(s)), pad = (v) => String(v).padStart(2, "0");
    return `${pad(Math.floor(whole / 3600))}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
  }

  function draw() {
    const width = canvas.clientWidth, height = TOP + ROW * lanes.nodes.length + 4, ratio = window.devicePixelRatio || 1;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const x = (t) => LEFT + ((t - view[0]) / (view[1] - view[0])) * (width - LEFT);
    const inside = (a, b) => b >= view[0] && a <= view[1];
    const bar = (a, b, y, h) => pen.fillRect(Math.max(LEFT, x(a)), y, Math.max(1, Math.min(width, x(b)) - Math.max(LEFT, x(a))), h);
    pen.clearRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = colour("--soft");
    const span = view[1] - view[0];
    const step = [1, 5, 15, 60, 300, 900, 3600, 10800, 43200].find((s) => span / s <= (width - LEFT) / 70) || 86400;
    for (let t = Math.ceil(view[0] / step) * step; t <= view[1]; t += step) {
      pen.fillText(clock(t), x(t) + 3, 12);
      pen.globalAlpha = 0.35;
      pen.fillRect(x(t), 0, 1, height);
      pen.globalAlpha = 1;
    }
    lanes.nodes.forEach((node, i) => {
      if (i === 0 || lanes.nodes[i - 1] !== node) {
        pen.fillStyle = colour("--soft");
        pen.fillText(`node ${node}`, 6, TOP + ROW * i + 13);
        pen.fillStyle = colour("--grid");
        pen.fillRect(0, TOP + ROW * i - 1, width, 1);
      }
    });
    pen.fillStyle = colour("--grid");
    policy.containers.forEach(([, , from, to], i) => { if (inside(from, to)) bar(from, to, TOP + ROW * lanes.lane[i] + 1, ROW - 3); });
    for (const s of policy.stays) {
      const [c, f, kind, from, to] = s;
      if (!inside(from, to)) continue;
      pen.globalAlpha = kind === 1 ? 0.45 : 1;
      pen.fillStyle = `hsl(${hue(f)} 55% ${kind === 2 ? 45 : 60}%)`;
      bar(from, to, TOP + ROW * lanes.lane[c] + 2 + s.place * 4, 3.4);
    }
    pen.globalAlpha = 1;
    for (const [c, , type, from, to] of policy.runs) {
      if (!inside(from, to)) continue;
      pen.fillStyle = RUNS[type][1];
      bar(from, to, TOP + ROW * lanes.lane[c] + 1, ROW - 3);
    }
    pen.fillStyle = RUNS[4][1];
    for (const t of policy.evictions) if (inside(t, t)) pen.fillRect(x(t), TOP - 6, 1.5, 5);
    output.textContent = `${clock(view[0])} to ${clock(view[1])}` + (policy.cut ? " (the rest of the window is left out)" : "");
  }

  const time = (px) => view[0] + ((px - LEFT) / (canvas.clientWidth - LEFT)) * (view[1] - view[0]);

  function zoom(factor, at) {
    if (!factor) { view = [0, policy.shown_s]; return draw(); }
    const length = Math.min(policy.shown_s, Math.max(2, (view[1] - view[0]) / factor));
    const share = (at - view[0]) / (view[1] - view[0]);
    move(at - share * length, length);
  }

  function move(from, length) {
    const start = Math.max(0, Math.min(policy.shown_s - length, from));
    view = [start, start + length];
    draw();
  }

  function point(px, py) {
    const lane = Math.floor((py - TOP) / ROW), t = time(px);
    const here = ([c, , , from, to]) => lanes.lane[c] === lane && from <= t && t <= to;
    const run = policy.runs.find(here), stays = policy.stays.filter(here);
    const words = [];
    if (run) words.push(`runs ${data.names[run[1]]} (${RUNS[run[2]][0]}, ${(run[4] - run[3]).toFixed(2)} s)`);
    for (const s of stays) words.push(`${data.names[s[1]]} ${KINDS[s[2]]}`);
    output.textContent = `${clock(t)}  ${words.join(", ")}`;
  }

  let drag = null;
  canvas.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.shiftKey && Math.abs(e.deltaY) < Math.abs(e.deltaX)) return;
    e.preventDefault();
    zoom(e.deltaY < 0 ? 1.3 : 1 / 1.3, time(e.offsetX));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (e) => { drag = { x: e.offsetX, view: [...view] }; canvas.setPointerCapture(e.pointerId); });
  canvas.addEventListener("pointerup", () => { drag = null; });
  canvas.addEventListener("pointermove", (e) => {
    if (!drag) return point(e.offsetX, e.offsetY);
    const length = drag.view[1] - drag.view[0];
    move(drag.view[0] - ((e.offsetX - drag.x) / (canvas.clientWidth - LEFT)) * length, length);
  });
  canvas.addEventListener("keydown", (e) => {
    const length = view[1] - view[0], middle = (view[0] + view[1]) / 2;
    if (e.key === "+") zoom(2, middle);
    else if (e.key === "-") zoom(0.5, middle);
    else if (e.key === "ArrowLeft") move(view[0] - length / 4, length);
    else if (e.key === "ArrowRight") move(view[0] + length / 4, length);
    else return;
    e.preventDefault();
  });
  box.querySelectorAll("button").forEach((b) => b.addEventListener("click", () => zoom(Number(b.dataset.zoom), (view[0] + view[1]) / 2)));
  select.append(...data.policies.map((p) => new Option(p.name, p.name)));
  select.addEventListener("change", () => show(select.value));
  box.querySelector(".legend").append(...RUNS.map(([name, shade]) => {
    const item = document.createElement("span"), swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = shade;
    item.append(swatch, `run: ${name}`);
    return item;
  }));
  window.addEventListener("resize", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const first = (data.policies.find((p) => p.name === "tyche") || data.policies[data.policies.length - 1]).name;
  select.value = first;
  show(first);
})();
