"use strict";
// What stands beside the graph: the whole plan, or what was clicked.

const Panel = (() => {
  const row = (label, ...content) => element("tr", {}, element("th", {}, label), element("td", {}, ...content));
  const table = (...rows) => element("table", {}, element("tbody", {}, ...rows.filter(Boolean)));
  const heading = (content) => element("h3", {}, content);
  const quiet = (...content) => element("p", { class: "quiet" }, ...content);
  const code = (content) => element("code", {}, content);
  const link = (content, action) => element("button", { class: "link", click: action }, content);
  const figure = (label, value, note) => element("div", { class: "figure" }, element("b", {}, value), label, note ? quiet(note) : null);

  function tag(backend, context) {
    return element("span", { class: `tag ${context.palette(backend)}` }, backend);
  }

  // --- the whole plan ---------------------------------------------------------------------------

  function overview(context) {
    const plan = context.plan.document;
    const parts = [element("h2", {}, plan.target), quiet(plan.instance ? `figures of ${plan.instance}` : "")];
    parts.push(...plan.warnings.map((warning) => element("p", { class: "warning" }, warning)));
    parts.push(...(plan.estimate ? estimate(plan.estimate) : [quiet("This target has no figures, so nothing is estimated.")]));
    parts.push(...fallbacks(plan, context), ...segments(plan, context), ...comparison(context));
    if (plan.estimate) parts.push(...about(plan.estimate));
    return parts;
  }

  function estimate(own) {
    const { price } = own;
    const parts = [element("div", { class: "figures" },
      figure("a request", Format.seconds(own.seconds)),
      figure("requests a second", Format.count(own.requests_s), `${own.bottleneck} is the bottleneck`),
      price ? figure("a million requests", `${Number(price.per_million.toPrecision(4))} ${price.currency}`, `${price.per_hour} ${price.currency} an hour, ${price.date}`) : figure("a million requests", "not known", own.no_price),
      figure("transfers a request", own.transfers.reduce((sum, one) => sum + one.times, 0), Format.bytes(own.transfers.reduce((sum, one) => sum + one.times * one.nbytes, 0))))];
    parts.push(heading("Memory of one copy"));
    for (const device of own.devices) {
      parts.push(element("p", {}, `${device.name}: ${Format.bytes(device.memory.total)} of ${Format.bytes(device.memory_bytes)}${device.fits ? "" : " — too much"}`));
      parts.push(element("meter", { min: 0, max: device.memory_bytes, value: device.memory.total, "aria-label": `memory of ${device.name}` }));
      parts.push(quiet(`weights ${Format.bytes(device.memory.weights)}, values ${Format.bytes(device.memory.values)}, inputs and tables ${Format.bytes(device.memory.given)}; ${Format.plural(device.copies, "copy").replace("copys", "copies")} at a time`));
    }
    return parts;
  }

  function about(own) {
    const notes = ["Seconds are those of the target's peak figures; nothing was measured."];
    notes.push(...own.unknown.map((text) => `Not included: ${text}.`));
    if (own.price) notes.push(`Price: ${own.price.terms}; ${own.price.date}; ${own.price.source}`);
    return [heading("About these figures"), element("ul", { class: "quiet" }, ...notes.map((note) => element("li", {}, note)))];
  }

  function fallbacks(plan, context) {
    const parts = [heading(`Not on ${plan.preferred || "the preferred backend"}`)];
    if (!plan.fallbacks.length) parts.push(quiet("Nothing falls back."));
    for (const one of plan.fallbacks) {
      const ops = Object.entries(one.ops).map(([op, count]) => (count > 1 ? `${count} × ${op}` : op)).join(", ");
      parts.push(element("div", { class: "card" },
        element("p", {}, tag(one.backend, context), " ", element("b", {}, one.code)),
        one.source ? element("p", {}, link(one.source, () => context.find(one.source))) : null,
        element("p", {}, `${ops}: ${one.message}`),
        quiet(`${Format.share(one.share)} of the operations; about ${Format.seconds(one.seconds)} a request`),
        element("p", {}, "To do: ", one.advice)));
    }
    return parts;
  }

  function segments(plan, context) {
    const whole = plan.estimate ? plan.estimate.seconds : 0;
    const rows = Object.entries(plan.segments).map(([name, own]) => element("tr", {},
      element("td", {}, link(name, () => context.choose({ segment: name }, true))),
      element("td", {}, tag(own.backend, context)),
      element("td", { class: "number" }, own.estimate && whole ? Format.share((own.estimate.calls * own.estimate.seconds) / whole) : "")));
    return [heading("Segments, and their share of the time"), table(...rows)];
  }

  function comparison(context) {
    const rows = context.data.comparison;
    if (rows[0].length < 3) return [];
    return [heading("Targets side by side"), table(...rows.map((cells) => element("tr", {}, ...cells.map((cell, i) => element(i ? "td" : "th", {}, cell)))))];
  }

  // --- one thing --------------------------------------------------------------------------------

  function segment(name, context) {
    const own = context.plan.document.segments[name];
    const host = context.plan.drawing.hosts[name];
    const parts = [back(context), element("h2", {}, name), element("p", {}, tag(own.backend, context), own.device ? ` on ${own.device}` : "")];
    if (host) parts.push(element("p", {}, "The host op ", code(host.op), ": NumPy code of the pipeline."));
    const time = own.estimate;
    parts.push(table(
      row("nodes", String(own.nodes)),
      row("operations", Format.count(own.operations)),
      row("weights", Format.bytes(own.weight_bytes)),
      own.instructions ? row("instructions", Format.count(own.instructions)) : null,
      own.stages.length ? row("stages", own.stages.join(", ")) : null,
      time ? row("a call", `${Format.seconds(time.seconds)}: arithmetic ${Format.seconds(time.compute_s)}, memory ${Format.seconds(time.memory_s)}, the call itself ${Format.seconds(time.call_s)}`) : null,
      time ? row("calls a request", String(time.calls)) : null,
      own.split ? row("split for", own.split) : null));
    for (const reason of reasons(context.plan.document.plan, name)) parts.push(heading(`Border: ${reason.before} → ${reason.after}`), ...because(reason, context));
    parts.push(heading("Reads"), values(own.inputs), heading("Makes"), values(own.outputs));
    parts.push(heading("Holds"), holds(own.holds, context));
    return parts;
  }

  const values = (list) => (list.length ? table(...list.map(([name, type]) => row(name, code(type)))) : quiet("nothing"));

  function holds(groups, context) {
    const sorted = [...groups].sort((a, b) => b.count - a.count).slice(0, 40);
    const rows = sorted.map((one) => element("tr", {}, element("td", {}, one.count > 1 ? `${one.count} × ${one.op}` : one.op), element("td", {}, one.source ? link(one.source, () => context.find(one.source)) : "")));
    return element("div", {}, table(...rows), groups.length > sorted.length ? quiet(`and ${groups.length - sorted.length} more`) : null);
  }

  function* reasons(steps, name) {
    for (const step of steps) {
      if (step.border && (step.border.before === name || step.border.after === name)) yield step.border;
      if (step.steps) yield* reasons(step.steps, name);
    }
  }

  function because(reason, context) {
    return [
      element("p", {}, reason.reason),
      reason.source ? element("p", {}, link(reason.source, () => context.find(reason.source))) : null,
      quiet(`kind: ${reason.kind}; ${Format.bytes(reason.nbytes)} go from the one to the other`)].filter(Boolean);
  }

  function border(reason, context) {
    return [back(context), element("h2", {}, "Why there is a border"), element("p", {}, `${reason.before} → ${reason.after}`), ...because(reason, context)];
  }

  function loop(name, context) {
    const step = context.loops.get(name);
    const parts = [back(context), element("h2", {}, `${name} × ${step.trips}`), element("p", {}, `The body runs ${step.trips} times and is compiled once.`)];
    parts.push(heading("Carried from trip to trip"), values(step.carries.map(([inner, , type]) => [inner, type])));
    if (step.slices.length) parts.push(heading("A row a trip of"), values(step.slices.map(([source, , type]) => [source, type])));
    if (step.invariants.length) parts.push(heading("The same in every trip"), values(step.invariants));
    if (step.stacked.length) parts.push(heading("Collected"), values(step.stacked.map(([result, , type]) => [result, type])));
    return parts;
  }

  function node(name, index, context) {
    const { texts, verdicts, segments: drawn } = context.plan.drawing;
    const own = drawn[name].nodes[index];
    const parts = [back(context), element("p", { class: "quiet" }, "in ", link(name, () => context.choose({ segment: name })))];
    if (own.k !== "op") return [...parts, element("h2", {}, own.n), element("p", {}, `${own.k === "in" ? "Input" : "Output"} of the segment: `, code(texts[own.t]))];
    parts.push(element("h2", {}, texts[own.o]), element("p", { class: "source" }, code(texts[own.s] || "no source line is known")), heading("Verdicts"));
    for (const verdict of verdicts[own.v]) parts.push(verdictCard(verdict, context));
    parts.push(heading("What it does"), table(
      row("node", code(own.n)),
      texts[own.g] ? row("stage", code(texts[own.g])) : null,
      row("arguments", code(texts[own.a])),
      texts[own.i] ? row("takes", code(texts[own.i])) : null,
      row("gives", code(texts[own.t])),
      own.w.length ? row("weights", code(own.w.join(", "))) : null,
      row("operations", Format.count(own.f)),
      own.c === undefined ? null : row("estimate", `${Format.seconds(Math.max(own.c, own.m) / 1e9)}, bound by ${own.c > own.m ? "arithmetic" : "memory"} (${Format.seconds(own.c / 1e9)} and ${Format.seconds(own.m / 1e9)})`)));
    return parts;
  }

  function verdictCard([backend, refusal, message, advice], context) {
    if (!refusal) return element("div", { class: "verdict", "data-verdict": backend }, tag(backend, context), " takes it");
    return element("div", { class: "verdict refused", "data-verdict": backend }, tag(backend, context), " rejects it: ", element("b", { class: "code" }, refusal), element("p", {}, message), advice ? quiet(`To do: ${advice}`) : null);
  }

  function results(query, found, context) {
    const parts = [back(context), element("h2", {}, `${found.length}${found.length >= 200 ? " or more" : ""} found for “${Format.cut(query, 60)}”`)];
    parts.push(table(...found.map((one) => element("tr", {}, element("td", {}, link(one.label, () => context.choose({ segment: one.segment, node: one.node }, true))), element("td", {}, one.segment)))));
    return parts;
  }

  const back = (context) => element("p", {}, link("← the plan", () => context.choose({})));
  return { overview, segment, border, loop, node, results };
})();
