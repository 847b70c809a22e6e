"use strict";
// Ties it together: which plan is shown, what is open and chosen, and how one looks at it.

(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("canvas");
  const world = document.getElementById("world");
  const panel = document.getElementById("panel");
  const view = { x: 0, y: 0, scale: 1 };
  const expanded = new Set();
  let views = new Map();
  let scene = null;
  let waiting = false;
  const [NEAREST, FARTHEST] = [4, 0.002];

  const context = {
    data,
    plan: data.plans[0],
    loops: new Map(),
    palette(backend) {
      const others = context.plan.document.backends.filter((name) => name !== "host");
      return backend === "host" ? "bh" : `b${Math.max(0, others.indexOf(backend)) % 5}`;
    },
    open: (item, group) => views.set(item.name, new NodeView(item, group, context)),
    toggle(name) {
      const before = boxOf(name);
      if (!expanded.delete(name)) expanded.add(name);
      draw();
      keep(before, boxOf(name));
    },
    choose,
    find,
  };

  // --- drawing ----------------------------------------------------------------------------------

  function draw() {
    views = new Map();
    scene = Scene.build(context.plan, expanded);
    world.replaceChildren(Shapes.scope(scene, 0, 0, context, context.plan.document.plan));
    look();
  }

  function look() {
    waiting = false;
    world.setAttribute("transform", `translate(${view.x},${view.y}) scale(${view.scale})`);
    document.getElementById("zoom").textContent = `${Number((view.scale * 100).toPrecision(view.scale < 0.1 ? 2 : 3))} %`;
    const { width, height } = canvas.getBoundingClientRect();
    const seen = { x: -view.x / view.scale, y: -view.y / view.scale, width: width / view.scale, height: height / view.scale };
    for (const one of views.values()) one.update(seen, view.scale);
  }

  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(look);
  }

  // --- looking ----------------------------------------------------------------------------------

  function zoom(factor, x, y) {
    const bounds = canvas.getBoundingClientRect();
    const [cx, cy] = [x ?? bounds.width / 2, y ?? bounds.height / 2];
    const scale = Math.min(NEAREST, Math.max(FARTHEST, view.scale * factor));
    view.x = cx - ((cx - view.x) * scale) / view.scale;
    view.y = cy - ((cy - view.y) * scale) / view.scale;
    view.scale = scale;
    soon();
  }

  // All of it; `least` keeps long plans legible, from their top.
  function fit(least = FARTHEST) {
    const { width, height } = canvas.getBoundingClientRect();
    const [w, h] = [scene.left + scene.right + 60, scene.height + 60];
    view.scale = Math.max(least, Math.min(1, width / w, height / h));
    view.x = (width + (scene.left - scene.right) * view.scale) / 2;
    view.y = Math.max(30 * view.scale, (height - scene.height * view.scale) / 2);
    soon();
  }

  function centre({ x, y }, scale = view.scale) {
    const { width, height } = canvas.getBoundingClientRect();
    view.scale = Math.max(scale, 0.6);
    view.x = width / 2 - x * view.scale;
    view.y = height / 2 - y * view.scale;
    soon();
  }

  // Keeps the header of a box where it is when the box grows or shrinks.
  function keep(before, after) {
    if (!before || !after) return;
    view.y += (before.y - after.y) * view.scale;
    soon();
  }

  function boxOf(name, items = scene.items, x = 0, y = 0) {
    for (const item of items) {
      if (item.name === name) return { x: x + item.x + item.width / 2, y: y + item.y, height: item.height };
      if (item.kind !== "loop") continue;
      const found = boxOf(name, item.inner.items, x, y + item.y + item.header);
      if (found) return found;
    }
    return null;
  }

  // --- choosing ---------------------------------------------------------------------------------

  // {}: the plan; {segment}, {segment, node}, {loop}, {border}. `go` brings it into view.
  function choose(what, go = false) {
    if (go && what.segment) reveal(what);
    mark(what);
    const content = what.border ? Panel.border(what.border, context)
      : what.node !== undefined ? Panel.node(what.segment, what.node, context)
      : what.segment ? Panel.segment(what.segment, context)
      : what.loop ? Panel.loop(what.loop, context)
      : Panel.overview(context);
    panel.replaceChildren(...content);
    panel.scrollTop = 0;
  }

  function mark(what) {
    for (const one of world.querySelectorAll(".chosen")) one.classList.remove("chosen");
    for (const [name, one] of views) one.choose(name === what.segment && what.node !== undefined ? what.node : null);
    if (what.node !== undefined) return;
    const name = what.segment ? ["segment", what.segment] : what.loop ? ["loop", what.loop] : null;
    if (name) world.querySelector(`[data-${name[0]}="${CSS.escape(name[1])}"]`)?.classList.add("chosen");
  }

  function reveal({ segment, node }) {
    if (node === undefined) {
      const box = boxOf(segment);
      if (box) centre({ x: box.x, y: box.y + Math.min(box.height, 200) / 2 });
      return;
    }
    if (!expanded.has(segment)) {
      expanded.add(segment);
      draw();
    }
    centre(views.get(segment).centre(node), Math.max(view.scale, 1));
    look();
  }

  // --- finding ----------------------------------------------------------------------------------

  function find(query) {
    const words = query.trim().toLowerCase();
    if (!words) {
      choose({});
      return;
    }
    const { texts, segments } = context.plan.drawing;
    const found = [];
    for (const [segment, drawing] of Object.entries(segments)) {
      drawing.nodes.forEach((node, index) => {
        if (found.length >= 200 || node.k !== "op") return;
        const label = `${texts[node.o]} ${node.n}`;
        if (`${label} ${texts[node.s]} ${texts[node.g]}`.toLowerCase().includes(words)) found.push({ segment, node: index, label });
      });
    }
    mark({});
    panel.replaceChildren(...Panel.results(query, found, context));
    if (found.length === 1) choose({ segment: found[0].segment, node: found[0].node }, true);
  }

  // --- what one does ----------------------------------------------------------------------------

  function dragging() {
    const held = new Map();
    let moved = 0;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button !== 0) return;
      held.set(event.pointerId, [event.clientX, event.clientY]);
      moved = 0;
    });
    window.addEventListener("pointermove", (event) => {
      const before = held.get(event.pointerId);
      if (!before) return;
      const now = [event.clientX, event.clientY];
      const spread = () => {
        const [a, b] = [...held.values()];
        return Math.hypot(a[0] - b[0], a[1] - b[1]) || 1;
      };
      const wide = held.size === 2 ? spread() : 0;
      held.set(event.pointerId, now);
      moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
      if (moved > 4) canvas.classList.add("moving");
      view.x += (now[0] - before[0]) / held.size;
      view.y += (now[1] - before[1]) / held.size;
      if (wide) {
        const bounds = canvas.getBoundingClientRect();
        const [a, b] = [...held.values()];
        zoom(spread() / wide, (a[0] + b[0]) / 2 - bounds.x, (a[1] + b[1]) / 2 - bounds.y);
      }
      soon();
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      window.addEventListener(kind, (event) => {
        held.delete(event.pointerId);
        canvas.classList.remove("moving");
      });
    }
    // A click at the end of a drag chooses nothing.
    canvas.addEventListener("click", (event) => {
      if (moved <= 4) return;
      event.preventDefault();
      event.stopPropagation();
    }, true);
    canvas.addEventListener("click", () => choose({}));
  }

  function keys(event) {
    const step = 80;
    const moves = { ArrowUp: [0, step], ArrowDown: [0, -step], ArrowLeft: [step, 0], ArrowRight: [-step, 0] };
    if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit();
    else if (event.key === "Escape") choose({});
    else if (event.key === "/") document.getElementById("search").focus();
    else if (moves[event.key] && !panel.contains(event.target)) {
      view.x += moves[event.key][0];
      view.y += moves[event.key][1];
      soon();
    } else return;
    event.preventDefault();
  }

  function showPlan(index) {
    context.plan = data.plans[index];
    context.loops = new Map();
    const walk = (scope) => {
      for (const step of scope.steps) {
        if (!step.loop) continue;
        context.loops.set(step.loop, step);
        walk(step.body);
      }
    };
    walk(context.plan.drawing.steps);
    expanded.clear();
    [...document.querySelectorAll("#targets button")].forEach((button, i) => button.setAttribute("aria-selected", String(i === index)));
    document.getElementById("legend").replaceChildren(...context.plan.document.backends.map((name) => element("li", {}, element("i", { class: context.palette(name) }), name)));
    draw();
    fit(0.5);
    choose({});
  }

  function theme(name) {
    document.documentElement.dataset.theme = name;
  }

  function start() {
    document.getElementById("title").textContent = data.title;
    if (data.plans.length > 1) {
      document.getElementById("targets").append(...data.plans.map((plan, i) => element("button", { role: "tab", click: () => showPlan(i) }, plan.document.target)));
    }
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    theme(dark.matches ? "dark" : "light");
    dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
    const on = (id, kind, action) => document.getElementById(id).addEventListener(kind, action);
    on("theme", "click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
    on("in", "click", () => zoom(1.25));
    on("out", "click", () => zoom(0.8));
    on("fit", "click", () => fit());
    on("expand", "click", () => {
      const all = Object.keys(context.plan.drawing.segments);
      const open = all.every((name) => expanded.has(name));
      all.forEach((name) => (open ? expanded.delete(name) : expanded.add(name)));
      draw();
      fit();
    });
    on("search", "change", (event) => find(event.target.value));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      const bounds = canvas.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX - bounds.x, event.clientY - bounds.y);
    }, { passive: false });
    window.addEventListener("keydown", keys);
    window.addEventListener("resize", soon);
    dragging();
    showPlan(0);
  }

  start();
})();
