"use strict";
// The nodes of an open segment. Only those in view are elements; from afar a segment is two paths.

class NodeView {
  constructor(item, group, context) {
    this.drawing = item.drawing;
    this.context = context;
    this.name = item.name;
    [this.width, this.height] = context.plan.drawing.node;
    this.left = item.x + (item.width - item.drawing.width) / 2;
    this.top = item.y + Scene.BOX.height;
    this.shown = new Map();
    this.wires = new Map();
    this.chosen = null;
    this.far = shape("g", {}, this.silhouette(false), this.silhouette(true));
    this.lines = shape("g");
    this.near = shape("g");
    group.append(this.far, this.lines, this.near);
    // By height on the page, so that those in view are found by halving.
    this.order = item.drawing.nodes.map((node, index) => [node.y, index]).sort((a, b) => a[0] - b[0]);
    this.spans = item.drawing.edges.map(([from, to]) => [item.drawing.nodes[from].y, item.drawing.nodes[to].y]);
  }

  // The host takes host ops only; that it refuses an op says nothing.
  refused(node) {
    return node.k === "op" && this.context.plan.drawing.verdicts[node.v].some(([backend, code]) => code && backend !== "host");
  }

  silhouette(refused) {
    const [w, h] = [this.width, this.height];
    const nodes = this.drawing.nodes.filter((node) => this.refused(node) === refused);
    const path = nodes.map(({ x, y }) => `M${this.left + x - w / 2},${this.top + y - h / 2}h${w}v${h}h${-w}z`).join("");
    return shape("path", { d: path, class: `map ${refused ? "refused" : "own"}` });
  }

  // Shows what is within a rectangle of the world.
  update(view, scale) {
    const close = scale >= 0.32;
    this.far.setAttribute("display", close ? "none" : "inline");
    this.near.setAttribute("display", close ? "inline" : "none");
    this.lines.setAttribute("display", close ? "inline" : "none");
    if (!close) return;
    const [top, bottom] = [view.y - this.top - 80, view.y + view.height - this.top + 80];
    this.sync(this.shown, this.inView(view, top, bottom), (index) => this.node(index), this.near);
    const wires = new Set();
    this.spans.forEach(([start, end], index) => {
      if (end >= top && start <= bottom) wires.add(index);
    });
    this.sync(this.wires, wires, (index) => this.wire(index), this.lines);
  }

  inView(view, top, bottom) {
    let [low, high] = [0, this.order.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.order[middle][0] < top) low = middle + 1;
      else high = middle;
    }
    const found = new Set();
    const [left, right] = [view.x - this.left - this.width, view.x + view.width - this.left + this.width];
    for (; low < this.order.length && this.order[low][0] <= bottom; low += 1) {
      const index = this.order[low][1];
      const { x } = this.drawing.nodes[index];
      if (x >= left && x <= right) found.add(index);
    }
    return found;
  }

  sync(shown, wanted, make, parent) {
    for (const [index, made] of shown) {
      if (wanted.has(index)) continue;
      made.remove();
      shown.delete(index);
    }
    for (const index of wanted) {
      if (shown.has(index)) continue;
      const made = make(index);
      shown.set(index, made);
      parent.append(made);
    }
  }

  node(index) {
    const node = this.drawing.nodes[index];
    const { texts } = this.context.plan.drawing;
    const [x, y] = [this.left + node.x - this.width / 2, this.top + node.y - this.height / 2];
    const group = shape("g", { class: `node${node.k === "op" ? "" : " port"}${index === this.chosen ? " chosen" : ""}`, "data-node": node.n, "data-kind": node.k });
    group.append(shape("rect", { x, y, width: this.width, height: this.height }));
    const title = node.k === "op" ? texts[node.o] : node.n;
    group.append(Shapes.text(x + this.width / 2, y + 12, Format.cut(title, 20), "middle"));
    group.append(Shapes.text(x + this.width / 2, y + 26, Format.cut(texts[node.t], 25), "quiet middle"));
    if (this.refused(node)) group.append(shape("circle", { cx: x + this.width - 8, cy: y + 8, r: 4 }));
    const says = node.k === "op" ? `${texts[node.o]}  ${texts[node.t]}\n${texts[node.s]}` : `${node.k === "in" ? "input" : "output"} ${node.n}  ${texts[node.t]}`;
    group.append(shape("title", {}, says));
    return Shapes.active(group, () => this.context.choose({ segment: this.name, node: index }));
  }

  wire(index) {
    const [from, to, ...bends] = this.drawing.edges[index];
    const half = this.height / 2;
    const [start, end] = [this.drawing.nodes[from], this.drawing.nodes[to]];
    const points = [[start.x, start.y + half]];
    for (let i = 0; i < bends.length; i += 2) points.push([bends[i], bends[i + 1]]);
    points.push([end.x, end.y - half]);
    const lit = from === this.chosen || to === this.chosen;
    return shape("path", { d: this.smooth(points), class: `wire${lit ? " lit" : ""}`, "marker-end": "url(#arrow)" });
  }

  smooth(points) {
    const place = ([x, y]) => `${this.left + x},${this.top + y}`;
    let path = `M${place(points[0])}`;
    for (let i = 1; i < points.length; i += 1) {
      const [before, now] = [points[i - 1], points[i]];
      const middle = (before[1] + now[1]) / 2;
      path += before[0] === now[0] ? `L${place(now)}` : `C${place([before[0], middle])} ${place([now[0], middle])} ${place(now)}`;
    }
    return path;
  }

  // Marks one node, and what goes into it and out of it.
  choose(index) {
    this.chosen = index;
    for (const [shownIndex, made] of this.shown) made.classList.toggle("chosen", shownIndex === index);
    for (const [wire, made] of this.wires) {
      const [from, to] = this.drawing.edges[wire];
      made.classList.toggle("lit", index !== null && (from === index || to === index));
    }
  }

  centre(index) {
    const { x, y } = this.drawing.nodes[index];
    return { x: this.left + x, y: this.top + y };
  }
}
