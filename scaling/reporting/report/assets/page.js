"use strict";
/* The planner's page: reads the fields, asks Planner, writes the answer and moves the picture. */
(() => {
  const $ = (id) => document.getElementById(id);
  const facts = JSON.parse($("planner-data").textContent);
  if (facts.draws) {
    const bytes = Uint8Array.from(atob(facts.draws), (c) => c.charCodeAt(0));
    facts.draws = new Float64Array(bytes.buffer);
  }
  /* While a slider moves, a part of the draws answers at once; all of them follow when it rests. */
  const QUICK = 500, PICTURE = 100;
  const all = facts.draws && Planner.columns(facts);
  const quick = facts.draws && Planner.columns(facts, QUICK), few = facts.draws && Planner.columns(facts, PICTURE);

  const UNITS = {
    flops: { name: "FLOPs", low: Math.log10(facts.begin) - 6, high: Math.log10(facts.begin) + 8 },
    usd: { name: "dollars", low: 0, high: 10 },
    device_days: { name: "GPU-days", low: -1, high: 8 },
    kwh: { name: "kWh", low: -1, high: 10 },
    kg_co2e: { name: "kg CO2e", low: -1, high: 10 },
  };

  function short(value, digits = 3) {
    let text = value.toFixed(Math.min(20, Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value)) + 1e-12))));
    return text.includes(".") ? text.replace(/\.?0+$/, "") : text;
  }
  function power(value, digits = 3) {
    if (value === 0) return "0";
    value = Number(value.toPrecision(digits));
    if (Math.abs(value) >= 1e-2 && Math.abs(value) < 1e4) return short(value, digits);
    const exponent = Math.floor(Math.log10(Math.abs(value)) + 1e-12);
    return short(value / 10 ** exponent, digits) + "e" + exponent;
  }
  function count(value) {
    value = Number(value.toPrecision(3));
    if (value >= 1e15 || (value > 0 && value < 1e-3)) return power(value);
    for (const [size, letter] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]]) {
      if (value >= size) return short(value / size) + letter;
    }
    return value === 0 ? "0" : short(value);
  }
  const usd = (value) => "$" + (value < 0.01 ? power(value) : value < 1000 ? value.toFixed(2) : count(value));
  const plain = (value) => value.toFixed(Math.max(0, 3 - Math.floor(Math.log10(value))));
  function duration(hours) {
    for (const [unit, size, below] of [["s", 1 / 3600, 1 / 60], ["min", 1 / 60, 1], ["h", 1, 48], ["days", 24, 17520]]) {
      if (hours < below) return short(hours / size) + " " + unit;
    }
    return count(hours / 8766) + " years";
  }

  /* A number as people write it: 1e21, 20B, 1.5M, 3,000. NaN where it is none; null where nothing is written. */
  function read(field) {
    const text = $(field).value.trim().replace(/[,_\s$]/g, "");
    if (!text) return null;
    const found = /^(\d*\.?\d+(?:e[+-]?\d+)?)([kMGBT]?)$/i.exec(text);
    const letter = found && { k: 1e3, m: 1e6, g: 1e9, b: 1e9, t: 1e12 }[found[2].toLowerCase()];
    return found ? Number(found[1]) * (letter || 1) : NaN;
  }

  /* A number, or two with "to", ":" or "-" between them, as [low, high]; null where nothing is written, NaN where it is neither. */
  function readRange(field) {
    const parts = $(field).value.trim().replace(/[,_\s$]/g, "").split(/to|:|(?<![eE])-/i).filter(Boolean).map(Number);
    if (!parts.length) return null;
    const [low, high = low] = parts;
    return parts.length < 3 && low > 0 && low <= high ? [low, high] : NaN;
  }

  function refuse(field, what) {
    $(field).setAttribute("aria-invalid", "true");
    throw new Planner.Impossible(`${$(field).labels[0].textContent}: "${$(field).value}" is not ${what}`);
  }

  function wish() {
    const numbers = {};
    for (const field of ["budget", "g_per_kwh", "inference_tokens", "unique_tokens", "max_memory_gb", "devices"]) {
      numbers[field] = read(field);
      const bad = Number.isNaN(numbers[field]) || (numbers[field] !== null && numbers[field] <= 0 && !["inference_tokens", "g_per_kwh"].includes(field));
      $(field).setAttribute("aria-invalid", "false");
      if (bad) refuse(field, "a positive number. Write it as 1e21, 20B or 1500.");
    }
    const price = readRange("usd_per_hour"), mfu = $("mfu").value / 100, give = read("mfu_spread");
    for (const field of ["usd_per_hour", "mfu_spread"]) $(field).setAttribute("aria-invalid", "false");
    if (Number.isNaN(price)) refuse("usd_per_hour", "a price. Write it as 2.5, or as a range: 2 to 4.");
    if (Number.isNaN(give) || give / 100 >= mfu || give / 100 + mfu > 1) {
      refuse("mfu_spread", `between 0 and ${Math.min($("mfu").value - 1, 100 - $("mfu").value)}.`);
    }
    if (numbers.budget === null) throw new Planner.Impossible("Give a budget.");
    const kind = $("kind").value, budgets = {};
    budgets[kind === "device_days" ? "device_hours" : kind] = kind === "device_days" ? 24 * numbers.budget : numbers.budget;
    return {
      budgets, accelerator: $("accelerator").value, precision: $("precision").value, price: $("price").value,
      usd_per_hour: price && Math.sqrt(price[0] * price[1]), price_range: price, mfu,
      mfu_range: give ? [mfu - give / 100, mfu + give / 100] : null, region: $("region").value, g_per_kwh: numbers.g_per_kwh,
      inference_tokens: numbers.inference_tokens || 0, unique_tokens: numbers.unique_tokens, max_params: null,
      max_memory_gb: numbers.max_memory_gb, devices: numbers.devices || 1,
    };
  }

  function put(id, value, between) {
    $(id).textContent = value;
    if ($(id + "-between")) $(id + "-between").textContent = between || "";
  }

  function ranged(answer, name, write) {
    const ends = answer.intervals && answer.intervals[name];
    const [low, high] = ends ? ends.map((end) => write(end)) : [];
    return low === high ? "" : `${low} to ${high}`;
  }

  function show(asked, answer) {
    const ratio = (value) => short(value, 3);
    put("N", count(answer.N), ranged(answer, "N", count));
    put("D", count(answer.D), ranged(answer, "D", count));
    put("loss", plain(answer.loss), ranged(answer, "loss", plain));
    put("ratio", ratio(answer.tokens_per_parameter), ranged(answer, "tokens_per_parameter", ratio));
    const also = (...parts) => parts.filter(Boolean).join("; ");
    put("C", power(answer.C), also(ranged(answer, "C", power), answer.serving && `and ${power(answer.serving)} to serve`));
    put("usd", answer.usd === null ? "not known" : usd(answer.usd), answer.usd === null ? "give dollars a device-hour" : ranged(answer, "usd", usd));
    put("hours", count(answer.device_hours), also(ranged(answer, "device_hours", count), `${duration(answer.device_hours / asked.devices)} on ${asked.devices}`));
    put("kwh", answer.kwh === null ? "not known" : count(answer.kwh), ranged(answer, "kwh", count));
    put("kg", answer.kg_co2e === null ? "not known" : count(answer.kg_co2e), ranged(answer, "kg_co2e", count));
    put("flat", `${count(answer.flat[0])} to ${count(answer.flat[1])}`, "cost at most 1% of the compute");
    $("brief").textContent = `N* ${count(answer.N)} · D* ${count(answer.D)} · loss ${plain(answer.loss)}` +
      (answer.usd === null ? "" : ` · ${usd(answer.usd)}`);
    const said = [];
    for (const name of ["N", "D", "C"]) {
      const [low, high] = facts.domain[name] || [0, Infinity];
      const beyond = Math.max(Math.log10(answer[name] / high), Math.log10(low / answer[name]));
      if (beyond > 0) said.push(`${name} lies ${beyond.toFixed(1)} decades outside what was trained.`);
    }
    if (answer.capped) said.push("The memory holds no larger model; the rest of the budget goes into tokens.");
    if (answer.epochs > 1) said.push(`The unique tokens are read ${short(answer.epochs)} times; what repeats are worth is from Muennighoff et al. 2023.`);
    if (!facts.verified) said.push("This fit is NOT verified.");
    $("complaint").textContent = said.join(" ");
  }

  function summary(asked, answer) {
    const between = answer.intervals ? ` (${Math.round(100 * facts.level)}% interval ${ranged(answer, "N", count)})` : "";
    return `With ${$("budget").value} ${UNITS[$("kind").value].name} on ${asked.accelerator} at ${$("mfu").value}% utilisation: ` +
      `${count(answer.N)} parameters${between} on ${count(answer.D)} tokens, loss ${plain(answer.loss)}.`;
  }

  /* --- the picture --------------------------------------------------------------------------------------------- */
  const POINTS = 97;
  /* The canvas' colours, asked of the page once a theme: asking makes the browser lay out anew. */
  let colours = {};
  const colour = (name) => (colours[name] ||= getComputedStyle(document.body).getPropertyValue("--canvas-" + name).trim());
  const sizesRun = facts.runs.map((run) => run[0]), lossesRun = facts.runs.map((run) => run[2]).sort((a, b) => a - b);
  const ordinary = lossesRun[Math.floor(0.95 * (lossesRun.length - 1))];
  /* The law's curve at each trained budget, through the sizes that it was trained at. */
  const trained = facts.budgets.map((C) => {
    const here = facts.runs.filter((run) => Math.abs(Math.log(run[1] / C)) < 0.05).map((run) => Math.log(run[0]));
    const low = Math.min(...here) - 0.15, high = Math.max(...here) + 0.15;
    const sizes = Array.from({ length: 41 }, (_, i) => low + (high - low) * i / 40);
    const first = facts.accelerators[0], asked = { budgets: { flops: C }, accelerator: first.name, price: "on-demand", mfu: 0.4,
      precision: ["bf16", "fp32"].find((name) => first[name]), region: facts.regions[0].name };
    return { C, sizes: sizes.map(Math.exp), losses: Planner.curve(facts, asked, null, sizes).line };
  });
  let chart = null, star = null, band = null;

  function picture(asked, answer) {
    const ends = [Math.min(answer.N / 30, ...sizesRun), Math.max(answer.N * 30, ...sizesRun)].map(Math.log), sizes = [];
    for (let i = 0; i < POINTS; i++) sizes.push(ends[0] + (ends[1] - ends[0]) * i / (POINTS - 1));
    const { line, low, high } = Planner.curve(facts, asked, few, sizes);
    const top = Math.max(ordinary, 1.1 * answer.loss);
    const drawn = (values) => values.map((y) => (y !== null && Number.isFinite(y) && y < 3 * top ? y : null));
    const data = [sizes.map(Math.exp), drawn(low || sizes.map(() => null)), drawn(high || sizes.map(() => null)), drawn(line)];
    star = [answer.N, answer.loss];
    band = answer.flat;
    const floor = Math.min(answer.loss, lossesRun[0], ...(low || [answer.loss]).filter((y) => y !== null));
    chart ||= draw(data);
    chart.batch(() => {
      chart.setData(data, false);
      chart.setScale("x", { min: data[0][0], max: data[0][POINTS - 1] });
      chart.setScale("y", { min: floor - 0.05 * (top - floor), max: top + 0.02 * (top - floor) });
    });
  }

  function draw(data) {
    const axis = { stroke: () => colour("ink"), grid: { stroke: () => colour("rule"), width: 1 }, ticks: { stroke: () => colour("rule") }, font: "12px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif", labelSize: 22 };
    const options = {
      pxAlign: 0, width: $("chart").clientWidth, height: 320, legend: { show: false }, cursor: { show: false }, padding: [12, 16, 0, 4],
      scales: { x: { time: false, distr: 3 }, y: {} },
      axes: [
        { ...axis, label: "parameters N", values: (_, ticks) => ticks.map((tick) => (tick === null ? null : count(tick))), splits: (u) => splits(u.scales.x.min, u.scales.x.max), filter: (_, ticks) => ticks },
        { ...axis, label: "loss, " + facts.unit, size: 58 },
      ],
      series: [{}, { stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } }, { stroke: () => colour("ink"), width: 2, points: { show: false } }],
      bands: [{ series: [2, 1], fill: () => colour("band") }],
      hooks: { drawClear: [paintBand], draw: [paintMarks] },
    };
    return new uPlot(options, data, $("chart"));
  }

  function splits(low, high) {
    const found = [], decades = Math.log10(high / low), steps = decades > 4 ? [1] : [1, 3], every = Math.ceil(decades / 8);
    for (let e = Math.ceil(Math.floor(Math.log10(low)) / every) * every; e <= Math.log10(high); e += every) {
      for (const step of steps) if (step * 10 ** e >= low && step * 10 ** e <= high) found.push(step * 10 ** e);
    }
    return found;
  }

  function paintBand(u) {
    if (!band) return;
    const [left, right] = band.map((N) => u.valToPos(Math.min(Math.max(N, u.scales.x.min), u.scales.x.max), "x", true));
    u.ctx.fillStyle = colour("flat");
    u.ctx.fillRect(left, u.bbox.top, right - left, u.bbox.height);
  }

  function paintMarks(u) {
    const ctx = u.ctx, ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath(); ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height); ctx.clip();
    ctx.strokeStyle = ctx.fillStyle = colour("run");
    ctx.lineWidth = 1.1 * ratio;
    for (const { sizes, losses } of trained) {
      ctx.beginPath();
      sizes.forEach((N, i) => ctx[i ? "lineTo" : "moveTo"](u.valToPos(N, "x", true), u.valToPos(losses[i], "y", true)));
      ctx.stroke();
    }
    for (const [N, , loss] of facts.runs) {
      ctx.beginPath(); ctx.arc(u.valToPos(N, "x", true), u.valToPos(loss, "y", true), 2.5 * ratio, 0, 2 * Math.PI); ctx.fill();
    }
    const [x, y] = [u.valToPos(star[0], "x", true), u.valToPos(star[1], "y", true)];
    ctx.beginPath();
    for (let i = 0; i < 10; i++) {
      const r = (i % 2 ? 3.4 : 8) * ratio, at = Math.PI * (i / 5 - 0.5);
      ctx[i ? "lineTo" : "moveTo"](x + r * Math.cos(at), y + r * Math.sin(at));
    }
    ctx.closePath();
    ctx.fillStyle = colour("paper"); ctx.fill();
    ctx.strokeStyle = colour("ink"); ctx.lineWidth = 1.5 * ratio; ctx.stroke();
    ctx.restore();
  }

  /* --- the fields ---------------------------------------------------------------------------------------------- */
  let resting = null;

  function update() {
    clearTimeout(resting);
    $("slider").setAttribute("aria-valuetext", `${$("budget").value} ${unit().name}`);
    $("mfu").setAttribute("aria-valuetext", $("mfu").value + "%");
    try {
      const asked = wish(), answer = Planner.plan(facts, asked, quick);
      show(asked, answer);
      picture(asked, answer);
      $("results").hidden = false;
      resting = setTimeout(() => rest(asked), 250);
    } catch (error) {
      if (!(error instanceof Planner.Impossible)) throw error;
      $("complaint").textContent = error.message;
      $("results").hidden = true;
      $("says").textContent = $("brief").textContent = "";
    }
  }

  function rest(asked) {
    const answer = Planner.plan(facts, asked, all);
    show(asked, answer);
    $("says").textContent = summary(asked, answer);
    $("chart").setAttribute("aria-label", "Loss against parameters at this budget. " + summary(asked, answer));
  }

  function choices(id, names, chosen) {
    $(id).replaceChildren(...names.map(([value, text]) => new Option(text, value, false, value === chosen)));
  }

  function unit() { return UNITS[$("kind").value]; }
  function slide() { $("budget").value = power(10 ** Number($("slider").value)); }
  function follow() {
    const value = read("budget");
    if (value > 0) $("slider").value = Math.log10(value);
  }
  function rescale() { $("slider").min = unit().low; $("slider").max = unit().high; }

  /* A change of unit keeps the compute: the same plan, said in the other currency. */
  let before = "flops";
  function convert() {
    const asked = wishWith(before);
    before = $("kind").value;
    rescale();
    if (asked) {
      const name = { flops: "C", device_days: "device_hours" }[before] || before;
      const value = before === "flops" ? asked.C + asked.serving : before === "device_days" ? asked.device_hours / 24 : asked[name];
      if (value) $("budget").value = power(value, 5);
    }
    follow();
    update();
  }
  function wishWith(kind) {
    const now = $("kind").value;
    $("kind").value = kind;
    try { return Planner.plan(facts, wish(), null); } catch { return null; } finally { $("kind").value = now; }
  }

  function equip() {
    const chip = facts.accelerators.find((row) => row.name === $("accelerator").value);
    const rates = ["bf16", "fp8", "tf32", "fp32"].filter((name) => chip[name]);
    const kept = rates.includes($("precision").value) ? $("precision").value : rates[0];
    choices("precision", rates.map((name) => [name, `${name}, ${chip[name]} TFLOP/s`]), kept);
    const dollars = chip["usd_" + $("price").value.replace("-", "_")];
    $("usd_per_hour").placeholder = dollars ? `${dollars} (${chip.price_date})` : "not known: give one";
  }
  function place() {
    const grid = facts.regions.find((row) => row.name === $("region").value);
    $("g_per_kwh").placeholder = String(grid.g_per_kwh);
  }

  choices("kind", Object.entries(UNITS).map(([value, { name }]) => [value, name]), "flops");
  choices("accelerator", facts.accelerators.map((chip) => [chip.name, chip.name]), facts.defaults.accelerator);
  choices("price", [["on-demand", "on demand"], ["committed", "committed"], ["spot", "spot"]], "on-demand");
  choices("region", facts.regions.map((row) => [row.name, row.name]), facts.defaults.region);
  $("mfu").value = 100 * facts.defaults.mfu;
  $("budget").value = power(facts.begin);
  rescale(); follow(); equip(); place();
  $("kind").addEventListener("change", convert);
  $("slider").addEventListener("input", () => { slide(); update(); });
  $("budget").addEventListener("input", () => { follow(); update(); });
  for (const id of ["accelerator", "price"]) $(id).addEventListener("change", () => { equip(); update(); });
  $("region").addEventListener("change", () => { place(); update(); });
  $("mfu").addEventListener("input", () => { $("mfu-is").textContent = $("mfu").value + "%"; update(); });
  for (const id of ["precision", "usd_per_hour", "g_per_kwh", "inference_tokens", "unique_tokens", "max_memory_gb", "devices", "mfu_spread"]) {
    $(id).addEventListener("input", update);
  }
  new ResizeObserver(() => { if (chart) chart.setSize({ width: $("chart").clientWidth, height: 320 }); }).observe($("chart"));
  for (const media of ["(prefers-color-scheme: dark)", "print"]) {
    matchMedia(media).addEventListener("change", () => { colours = {}; if (chart) chart.redraw(false); });
  }
  $("mfu-is").textContent = $("mfu").value + "%";
  $("plan").hidden = false;
  update();
})();
