"use strict";
// Draws a scene: boxes of segments and loops, what goes between them, and why they are apart.

const Shapes = (() => {
  const round = Math.round;

  function text(x, y, content, kind = "") {
    return shape("text", { x: round(x), y: round(y), class: kind }, content);
  }

  function active(group, choose) {
    group.setAttribute("tabindex", "0");
    group.setAttribute("role", "button");
    group.addEventListener("click", (event) => {
      event.stopPropagation();
      if (!event.defaultPrevented) choose();
    });
    group.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      choose();
    });
    return group;
  }

  // Draws a scope at (x, y); `context` has plan, palette, choose(what) and the views of open segments.
  function scope(scene, x, y, context, steps) {
    const group = shape("g");
    const places = scene.items.map((item) => ({ ...item, x: item.x + x, y: item.y + y }));
    const lefts = shape("g");
    group.append(lefts);
    for (const link of scene.links) lefts.append(linkShape(link, places, x, context));
    for (const item of places) {
      if (item.kind === "terminal") group.append(terminal(item, context));
      else if (item.kind === "loop") group.append(loop(item, x, context, steps));
      else group.append(segment(item, context));
    }
    steps.forEach((step, index) => {
      if (step.border) group.append(border(step.border, places[index], places[index + 1], x, context));
    });
    return group;
  }

  // --- links ------------------------------------------------------------------------------------

  function device(item, context) {
    if (item.kind !== "segment") return null;
    return context.plan.document.segments[item.name].device;
  }

  function linkShape(link, places, x, context) {
    const from = places[link.from];
    const to = places[link.to];
    const ends = [device(from, context), device(to, context)];
    const moved = ends[0] && ends[1] && ends[0] !== ends[1];
    const kind = `link${moved ? " transfer" : ""}`;
    const group = shape("g", {}, shape("title", {}, link.values.map(([value, type]) => `${value}  ${type}`).join("\n")));
    const passing = link.lane !== undefined;
    const lane = passing ? x + link.x : x;
    const [start, end] = [leave(link, from, lane, group, kind), arrive(link, to, lane, group, kind)];
    const path = passing ? around(start, lane, end) : `M${start.x},${start.y}V${end.y}`;
    group.append(shape("path", { d: path, class: kind, "marker-end": end.free ? null : "url(#arrow)" }));
    if (!passing) group.append(text(x + 9, to.y - 25, amount(link.values), "quiet"));
    return group;
  }

  function amount(values) {
    const known = values.map(([, type]) => Format.typeBytes(type));
    const total = known.reduce((sum, size) => sum + (size || 0), 0);
    const size = known.every((one) => one === null) ? "of unknown size" : `· ${Format.bytes(total)}${known.includes(null) ? " or more" : ""}`;
    return `${Format.plural(values.length, "value")} ${size}`;
  }

  // Where a link leaves a step. What comes in starts at its chips, which are joined first.
  function leave(link, from, lane, group, kind) {
    if (from.kind !== "terminal") {
      return link.lane === undefined ? { x: lane, y: from.y + from.height } : { x: from.x, y: from.y + from.height - 20 };
    }
    const y = from.y + from.height + 10 + 6 * ((link.lane ?? -1) + 1);
    for (const place of chipPlaces(link, from)) group.append(shape("path", { d: `M${place},${from.y + from.height}V${y}H${lane}`, class: kind }));
    return { x: lane, y, free: true };
  }

  function arrive(link, to, lane, group, kind) {
    if (to.kind !== "terminal") return link.lane === undefined ? { x: lane, y: to.y } : { x: to.x, y: to.y + 20 };
    const y = to.y - 14 - 6 * ((link.lane ?? -1) + 1);
    for (const place of chipPlaces(link, to)) group.append(shape("path", { d: `M${lane},${y}H${place}V${to.y}`, class: kind, "marker-end": "url(#arrow)" }));
    return { x: lane, y, free: true };
  }

  function chipPlaces(link, terminal) {
    const values = new Set(link.values.map(([value]) => value));
    const chips = terminal.chips.filter((chip) => chip.values.some((value) => values.has(value)));
    return chips.map((chip) => terminal.x + chip.x + chip.width / 2);
  }

  function around(start, lane, end) {
    const r = 10;
    const first = start.free ? `M${lane},${start.y}` : `M${start.x},${start.y}H${lane + r}Q${lane},${start.y} ${lane},${start.y + r}`;
    return first + (end.free ? `V${end.y}` : `V${end.y - r}Q${lane},${end.y} ${lane + r},${end.y}H${end.x}`);
  }

  function border(reason, before, after, x, context) {
    const words = { "host-op": "host op", rejected: reason.code };
    const content = Format.cut(words[reason.kind] || reason.kind, 30);
    const width = 26 + content.length * 6.8;
    const y = before.y + before.height + 18;
    const group = shape("g", { class: `pill ${reason.kind}`, "data-border": `${reason.before} ${reason.after}` });
    group.append(shape("rect", { x: x - width - 10, y, width, height: 22 }), text(x - width / 2 - 10, y + 11.5, content, "middle"));
    group.append(shape("title", {}, reason.reason));
    return active(group, () => context.choose({ border: reason }));
  }

  // --- boxes ------------------------------------------------------------------------------------

  function terminal(item, context) {
    const group = shape("g");
    for (const chip of item.chips) {
      const own = shape("g", { class: `terminal ${chip.kind}` });
      own.append(shape("rect", { x: item.x + chip.x, y: item.y, width: chip.width, height: item.height }));
      own.append(text(item.x + chip.x + chip.width / 2, item.y + item.height / 2 + 0.5, chip.text, "quiet middle"));
      group.append(active(own, () => context.choose(item.owner ? { loop: item.owner.loop } : {})));
    }
    return group;
  }

  function segment(item, context) {
    const own = context.plan.document.segments[item.name];
    const group = shape("g", { class: `box ${context.palette(own.backend)}${item.open ? " open" : ""}`, "data-segment": item.name });
    group.append(shape("rect", { class: "frame", x: item.x, y: item.y, width: item.width, height: item.height }));
    group.append(text(item.x + 14, item.y + 21, Format.cut(item.name, item.open ? 200 : 32), "strong"));
    group.append(text(item.x + 14, item.y + 42, `${own.backend}${own.device && own.device !== own.backend ? ` on ${own.device}` : ""} · ${Format.plural(own.nodes, "node")}`, "quiet"));
    const figures = [`${Format.count(own.operations)} operations`];
    if (own.weight_bytes) figures.push(`weights ${Format.bytes(own.weight_bytes)}`);
    group.append(text(item.x + 14, item.y + 61, figures.join(" · "), "quiet"));
    if (own.estimate) timeBar(group, item, own.estimate, context);
    group.append(shape("title", {}, `${item.name}: ${own.stages.join(", ") || "glue of the driver"}`));
    active(group, () => context.choose({ segment: item.name }));
    if (item.drawing) group.append(toggle(item, context));
    if (item.open) context.open(item, group);
    return group;
  }

  // The segment's share of the request's time.
  function timeBar(group, item, estimate, context) {
    const whole = context.plan.document.estimate.seconds || 1;
    const part = (estimate.calls * estimate.seconds) / whole;
    const width = 292;
    group.append(text(item.x + 306, item.y + 42, `${estimate.calls > 1 ? `${estimate.calls} × ` : ""}${Format.seconds(estimate.seconds)}`, "quiet end"));
    group.append(shape("rect", { class: "bar rest", x: item.x + 14, y: item.y + 75, width, height: 4 }));
    group.append(shape("rect", { class: "bar own", x: item.x + 14, y: item.y + 75, width: Math.max(1, width * Math.min(1, part)), height: 4 }));
  }

  function toggle(item, context) {
    const group = shape("g", { class: "pill", "data-toggle": item.name });
    const x = item.x + item.width - 82;
    group.append(shape("rect", { x, y: item.y + 10, width: 70, height: 22 }));
    group.append(text(x + 35, item.y + 21.5, item.open ? "− nodes" : "+ nodes", "middle"));
    return active(group, () => context.toggle(item.name));
  }

  function loop(item, x, context, steps) {
    const step = item.step;
    const group = shape("g", { class: "loop", "data-loop": item.name });
    group.append(shape("rect", { class: "frame", x: item.x, y: item.y, width: item.width, height: item.height }));
    group.append(text(item.x + 18, item.y + 25, `${item.name} × ${step.trips}`, "strong"));
    group.append(text(item.x + item.width - 18, item.y + 25, `carries ${Format.plural(step.carries.length, "value")}`, "quiet end"));
    active(group, () => context.choose({ loop: item.name }));
    const top = item.y + item.header;
    const found = steps.find((one) => one.loop === item.name);
    group.append(scope(item.inner, x, top, context, found.steps));
    step.carries.slice(0, Scene.CHIPS).forEach((carry, index) => group.append(backEdge(item, index, x, top, carry)));
    return group;
  }

  // From what the body leaves to what it reads in the next trip, around the right side.
  function backEdge(item, index, x, top, carry) {
    const [entry, exit] = [item.inner.items[0], item.inner.items[item.inner.items.length - 1]];
    const [into, out] = [entry.chips[index], exit.chips[index]];
    const from = { x: x + exit.x + out.x + out.width / 2, y: top + exit.y + exit.height };
    const to = { x: x + entry.x + into.x + into.width / 2, y: top + entry.y };
    const side = x + item.inner.right + 20 + index * 14;
    const [low, high] = [from.y + 8 + index * 5, to.y - 12 - index * 5];
    const r = 8;
    const path = `M${from.x},${from.y}V${low - r / 2}Q${from.x},${low} ${from.x + r},${low}H${side - r}Q${side},${low} ${side},${low - r}`
      + `V${high + r}Q${side},${high} ${side - r},${high}H${to.x + r}Q${to.x},${high} ${to.x},${high + r / 2}V${to.y}`;
    const group = shape("g", { "data-carry": index }, shape("path", { d: path, class: "link back", "marker-end": "url(#back)" }));
    group.append(shape("title", {}, `${carry[1]} is ${carry[0]} of the next trip: ${carry[2]}`));
    return group;
  }

  return { scope, text, active };
})();
