"use strict";
// Where boxes stand. Steps run from top to bottom; a loop is a box around its body's steps.

const Scene = (() => {
  const BOX = { width: 320, height: 88 };
  const GAP = 78;
  const TERMINAL = 30;
  const HEADER = 46;
  const LANE = 18;
  const CHIPS = 5;

  // {items, links, left, right, height}: places within the scope, whose middle is x = 0.
  function stack(scope, plan, expanded, owner) {
    const items = [terminal(scope, owner, "in")];
    for (const step of scope.steps) items.push(step.loop ? loopBox(step, plan, expanded) : segmentBox(step, plan, expanded));
    items.push(terminal(scope, owner, "out"));
    const backs = owner ? Math.min(owner.carries.length, CHIPS) * 6 : 0;
    let y = backs;
    for (const item of items) {
      item.y = y;
      item.x = -item.width / 2;
      y += item.height + GAP;
    }
    const links = scope.links.map(([from, to, values]) => ({ from: from + 1, to: to + 1, values }));
    const lanes = assignLanes(links.filter((link) => link.to - link.from > 1));
    const half = Math.max(...items.map((item) => item.width / 2));
    for (const link of links) if (link.lane !== undefined) link.x = -half - 26 - link.lane * LANE;
    return { items, links, left: half + (lanes ? 30 + lanes * LANE : 0), right: half, height: y - GAP + backs };
  }

  // Links that pass other steps run side by side, the short ones inside.
  function assignLanes(links) {
    const lanes = [];
    for (const link of [...links].sort((a, b) => a.to - a.from - (b.to - b.from))) {
      let lane = lanes.findIndex((taken) => taken.every((other) => other.to <= link.from || other.from >= link.to));
      if (lane < 0) lane = lanes.push([]) - 1;
      lanes[lane].push(link);
      link.lane = lane;
    }
    return lanes.length;
  }

  function terminal(scope, owner, side) {
    const chips = owner ? loopChips(owner, side) : mainChips(scope, side);
    let x = 0;
    for (const chip of chips) {
      chip.width = Math.max(90, Math.min(300, 24 + chip.text.length * 6.6));
      chip.x = x;
      x += chip.width + 12;
    }
    return { kind: "terminal", side, chips, owner, scope, width: Math.max(0, x - 12), height: TERMINAL };
  }

  // Values beyond the first few share a chip.
  function chipsOf(values, kind, text) {
    const chips = values.slice(0, CHIPS).map((value) => ({ text: Format.cut(text(value), 42), kind, values: [value[0]] }));
    const rest = values.slice(CHIPS);
    if (rest.length) chips.push({ text: `and ${rest.length} more`, kind, values: rest.map(([value]) => value) });
    return chips;
  }

  function mainChips(scope, side) {
    const chips = chipsOf(side === "in" ? scope.given : scope.wanted, side, ([value, name, type]) => `${name || value}  ${type}`);
    return chips.length ? chips : [{ text: side === "in" ? "no inputs" : "no outputs", kind: side, values: [] }];
  }

  function loopChips(loop, side) {
    const chips = chipsOf(loop.carries.map(([inner, next, type]) => [side === "in" ? inner : next, type]), "carried", ([, type]) => type);
    const add = (list, place, words) => {
      if (list.length) chips.push({ text: words, kind: "rest", values: list.map((one) => one[place]) });
    };
    if (side === "in") {
      add(loop.slices, 1, `rows of ${Format.plural(loop.slices.length, "table")}`);
      add(loop.invariants, 0, Format.plural(loop.invariants.length, "invariant"));
    } else add(loop.stacked, 1, `${loop.stacked.length} collected`);
    return chips.length ? chips : [{ text: side === "in" ? "nothing read" : "nothing kept", kind: "rest", values: [] }];
  }

  function segmentBox(step, plan, expanded) {
    const drawing = plan.drawing.segments[step.segment];
    const open = Boolean(drawing) && expanded.has(step.segment);
    return {
      kind: "segment",
      name: step.segment,
      open,
      drawing,
      width: open ? Math.max(BOX.width, drawing.width + 40) : BOX.width,
      height: open ? BOX.height + drawing.height + 16 : BOX.height,
    };
  }

  function loopBox(step, plan, expanded) {
    const inner = stack(step.body, plan, expanded, step);
    const gutter = 44 + Math.min(step.carries.length, CHIPS) * 14;
    const side = Math.max(inner.left + 20, inner.right + gutter);
    return { kind: "loop", name: step.loop, step, inner, gutter, width: 2 * side, height: HEADER + inner.height + 24, header: HEADER };
  }

  const build = (plan, expanded) => stack(plan.drawing.steps, plan, expanded, null);
  return { build, BOX, HEADER, CHIPS };
})();
