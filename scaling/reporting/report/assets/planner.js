"use strict";
/* The planner's arithmetic: what scaling.planning computes for a law E + (A / N^alpha + B / D^beta)^k, without a page around it.

   facts: {law: {E, A, B, alpha, beta, k, r_d, r_n, kinked}, columns: names of the varied, draws: Float64Array [S * columns] or null,
           even, currency, accelerators, regions, defaults, level, domain}
   wish:  {budgets: {flops, usd, device_hours, kwh, kg_co2e}, accelerator, precision, price, usd_per_hour, price_range, mfu,
           mfu_range, region, g_per_kwh, inference_tokens, unique_tokens, max_params, max_memory_gb}; what is null is not given. */
const Planner = (() => {
  const BUDGETS = ["flops", "usd", "device_hours", "kwh", "kg_co2e"];
  const LOWEST = Math.log(1e2), HIGHEST = Math.log(1e20);
  const given = (value) => value !== null && value !== undefined;

  class Impossible extends Error {}

  /* What one device-hour computes and costs; null is not known. */
  function rates(facts, wish) {
    const chip = facts.accelerators.find((row) => row.name === wish.accelerator);
    const place = facts.regions.find((row) => row.name === wish.region);
    const { pue, server_factor, spot_overhead } = facts.defaults;
    const peak = chip[wish.precision];
    if (!given(peak)) throw new Impossible(`${chip.name} has no published dense rate in ${wish.precision}.`);
    const running = wish.price === "spot" ? 1 - spot_overhead : 1;
    const grams = given(wish.g_per_kwh) ? wish.g_per_kwh : place.g_per_kwh;
    const kwh = !given(chip.watts) ? null
      : chip.watts * (chip.power_share || 1) * (chip.server_factor || server_factor) * (given(place.pue) ? place.pue : pue) / 1000;
    return {
      flops: peak * 1e12 * wish.mfu * running * 3600,
      device_hours: 1,
      usd: given(wish.usd_per_hour) ? wish.usd_per_hour : chip["usd_" + wish.price.replace("-", "_")] ?? null,
      kwh,
      kg_co2e: kwh === null || !given(grams) ? null : kwh * grams / 1000,
    };
  }

  /* The FLOPs that every budget pays, and the name of the one that pays least; with factors on price and utilisation. */
  function affordable(hour, budgets, price = 1, mfu = 1) {
    let C = Infinity, binding = null;
    for (const name of BUDGETS) {
      if (!given(budgets[name])) continue;
      if (name !== "flops" && hour[name] === null) throw new Impossible(`the ${name} of this device are not known.`);
      const dearer = name === "usd" ? price / mfu : 1 / mfu;
      const here = name === "flops" ? budgets.flops : budgets[name] / (hour[name] / hour.flops * dearer);
      if (here < C) { C = here; binding = name; }
    }
    return { C, binding };
  }

  /* Factors on price and utilisation for S draws: log-uniform and triangular in their ranges; null where no range is given. */
  function spread(facts, wish, hour, S) {
    const wide = (range) => given(range) && range[0] < range[1];
    if (!wide(wish.price_range) && !wide(wish.mfu_range)) return null;
    const ends = (range, middle) => (given(range) && given(middle) ? range.map((end) => end / middle) : [1, 1]);
    const [cheap, dear] = ends(wish.price_range, hour.usd), [low, high] = ends(wish.mfu_range, wish.mfu);
    const price = new Float64Array(S), mfu = new Float64Array(S), [first, second] = facts.even;
    for (let s = 0; s < S; s++) {
      const u = (0.5 + first * (s + 1)) % 1, v = (0.5 + second * (s + 1)) % 1;
      price[s] = Math.exp(Math.log(cheap) + (Math.log(dear) - Math.log(cheap)) * u);
      mfu[s] = v < 0.5 ? low + (high - low) * Math.sqrt(v / 2) : high - (high - low) * Math.sqrt((1 - v) / 2);
    }
    return { price, mfu };
  }

  /* Training FLOPs a token, and d log of it / d log N, at log N. */
  function perToken(currency) {
    if (currency.flops === "6ND") return (u) => ({ log: Math.log(6) + u, slope: 1 });
    const { width, growth, least, bend, vocab, context, embeddings } = currency;
    const count = embeddings * vocab, share = count * width, block = 12 * width * width, power = 1 + 2 * growth;
    return (u) => {
      let d = (u - Math.log(block)) / power, slope = power;
      for (let i = 0; i < 12; i++) {
        const blocks = block * Math.exp(power * d), rest = share * Math.exp(growth * d);
        slope = (power * blocks + growth * rest) / (blocks + rest);
        const step = (Math.log(blocks + rest) - u) / slope;
        d -= step;
        if (Math.abs(step) < 1e-14) break;
      }
      // Near the least depth the ladder of shapes keeps it, and N = 12 depth w^2 + count w tells the width.
      const high = Math.exp(bend * d), whole = least ** bend + high, depth = whole ** (1 / bend);
      const N = Math.exp(u), area = 12 * depth;
      const w = (Math.sqrt(count * count + 4 * area * N) - count) / (2 * area);
      const deeper = high / whole / slope, wider = (N - area * w * w * deeper) / (2 * area * w * w + count * w);
      const parts = [area * w * w, vocab * w, depth * context * w];
      const powers = [deeper + 2 * wider, wider, deeper + wider];
      const sum = parts[0] + parts[1] + parts[2];
      return { log: Math.log(6 * sum), slope: parts.reduce((s, part, i) => s + part * powers[i], 0) / sum };
    };
  }

  const saturate = (amount, fresh, rate) => fresh - fresh * rate * Math.expm1(-(amount / fresh - 1) / rate);

  /* log of the N for which the unique tokens are the compute-optimal number: G^(1 + beta/alpha) U^(beta/alpha). */
  function logFitting(law, unique) {
    const power = law.beta / law.alpha;
    const logG = Math.log(law.alpha * law.A / (law.beta * law.B)) / (law.alpha + law.beta);
    return logG * (1 + power) + power * Math.log(unique);
  }

  /* Loss of the law at log N and log D, with repeated tokens worth less than new ones. */
  function lossAt(law, u, v, unique) {
    if (given(unique) || law.kinked) {
      const N = Math.exp(u), D = Math.exp(v);
      unique = given(unique) ? unique : D;
      u = Math.log(saturate(N, Math.min(N, Math.exp(logFitting(law, unique))), law.r_n));
      v = Math.log(saturate(D, Math.min(D, unique), law.r_d));
    }
    const excess = law.A * Math.exp(-law.alpha * u) + law.B * Math.exp(-law.beta * v);
    return law.E + (law.k === 1 ? excess : excess ** law.k);
  }

  /* The problem that a wish poses: the FLOPs at hand, log D and its slope as functions of log N, and the cap on log N. */
  function problem(facts, wish) {
    const hour = rates(facts, wish), { C, binding } = affordable(hour, wish.budgets);
    if (given(wish.unique_tokens) && !given(facts.law.r_d)) {
      throw new Impossible("what repeated tokens are worth is not known for this law: leave the unique tokens empty.");
    }
    const token = perToken(facts.currency), spared = (wish.inference_tokens || 0) / 3;
    const caps = [Math.exp(HIGHEST)];
    if (given(wish.max_params)) caps.push(wish.max_params);
    if (given(wish.max_memory_gb)) caps.push(wish.max_memory_gb * 1e9 / facts.defaults.training_bytes[wish.precision]);
    const logD = (u, share = 1) => Math.log(share * C / Math.exp(token(u).log) - spared);
    const loss = (law, u, share = 1) => {
      const v = logD(u, share);
      return v > 0 ? lossAt(law, u, v, wish.unique_tokens) : Infinity;
    };
    const cap = Math.log(Math.min(...caps));
    return { hour, C, binding, token, spared, cap, logD, loss, unique: wish.unique_tokens, budgets: wish.budgets, facts };
  }

  /* log N of least loss: closed form under 6ND alone, else a scan and then bisection of the slope's sign. */
  function best(asked, law, share = 1) {
    if (asked.facts.currency.flops === "6ND" && !asked.spared && !given(asked.unique)) {
      const sum = law.alpha + law.beta;
      const u = (Math.log(law.alpha * law.A / (law.beta * law.B)) + law.beta * Math.log(share * asked.C / 6)) / sum;
      return Math.min(u, asked.cap);
    }
    const f = (u) => asked.loss(law, u, share), steps = 160;
    const at = (i) => LOWEST + (asked.cap - LOWEST) * i / (steps - 1);
    let least = 0;
    const values = Array.from({ length: steps }, (_, i) => f(at(i)));
    for (let i = 1; i < steps; i++) if (values[i] < values[least]) least = i;
    if (!(values[least] < Infinity)) {
      throw new Impossible("serving alone takes all of this budget: raise it, or serve fewer tokens.");
    }
    const inside = at(least);
    let low = at(Math.max(least - 1, 0)), high = at(Math.min(least + 1, steps - 1));
    for (let i = 0; i < 52; i++) {
      const middle = (low + high) / 2, before = f(middle - 2e-5), after = f(middle + 2e-5);
      const rising = before < Infinity || after < Infinity ? after > before : middle > inside;
      if (rising) high = middle; else low = middle;
    }
    return (low + high) / 2;
  }

  /* log N of least loss for every bootstrap law and the FLOPs C [S] that it has: FLOPs a token are tabulated over log N. */
  function bestOfDraws(asked, laws, C) {
    const { S, A, B, alpha, beta } = laws, found = new Float64Array(S);
    if (asked.facts.currency.flops === "6ND" && !asked.spared && !given(asked.unique)) {
      for (let s = 0; s < S; s++) {
        const u = (Math.log(alpha[s] * A[s] / (beta[s] * B[s])) + beta[s] * Math.log(C[s] / 6)) / (alpha[s] + beta[s]);
        found[s] = Math.min(u, asked.cap);
      }
      return found;
    }
    const table = tabulate(asked.facts.currency), least = given(asked.unique) ? leastOnTable : balanceOnTable;
    for (let s = 0; s < S; s++) found[s] = Math.min(asked.cap, least(asked, table, laws.each[s], C[s]));
    return found;
  }

  const POINTS = 6001, tables = new WeakMap();

  /* FLOPs a token, and the log of the slope of their log in log N, on an even grid of log N: made once for a currency. */
  function tabulate(currency) {
    if (!tables.has(currency)) {
      const u = new Float64Array(POINTS), flops = new Float64Array(POINTS), tilt = new Float64Array(POINTS);
      const token = perToken(currency);
      for (let i = 0; i < POINTS; i++) {
        u[i] = LOWEST + (HIGHEST - LOWEST) * i / (POINTS - 1);
        const { log, slope } = token(u[i]);
        flops[i] = Math.exp(log); tilt[i] = Math.log(slope);
      }
      tables.set(currency, { u, flops, tilt });
    }
    return tables.get(currency);
  }

  /* Where alpha A N^-alpha = beta B D^-beta (-d log D / d log N), found on the table and interpolated. */
  function balanceOnTable(asked, { u, flops, tilt }, { A, B, alpha, beta }, C) {
    const offset = Math.log(alpha * A / (beta * B));
    const excess = (i) => {
      const bought = C / flops[i], D = bought - asked.spared;
      return D > 1 ? offset - alpha * u[i] + beta * Math.log(D) - tilt[i] - Math.log(bought / D) : -Infinity;
    };
    let low = 0, high = u.length - 1;
    if (excess(low) <= 0) return u[low];
    if (excess(high) >= 0) return u[high];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (excess(middle) > 0) low = middle; else high = middle;
    }
    const before = excess(low), after = excess(high);
    return after === -Infinity ? u[low] : u[low] + (u[high] - u[low]) * before / (before - after);
  }

  /* Where the loss with repeated tokens is least, on the table, with a parabola through the lowest three points. */
  function leastOnTable(asked, { u, flops }, law, C) {
    const logSize = logFitting(law, asked.unique), size = Math.exp(logSize), { unique } = asked;
    const loss = (i) => {
      const D = C / flops[i] - asked.spared;
      if (!(D > 1)) return Infinity;
      const at = u[i] <= logSize ? u[i] : Math.log(saturate(Math.exp(u[i]), size, law.r_n));
      const fresh = D <= unique ? Math.log(D) : Math.log(saturate(D, unique, law.r_d));
      return law.A * Math.exp(-law.alpha * at) + law.B * Math.exp(-law.beta * fresh);
    };
    let low = 0, high = u.length - 1;
    while (high - low > 3) {
      const middle = (low + high) >> 1, here = loss(middle);
      if (here < loss(middle + 1) || here === Infinity) high = middle + 1; else low = middle;
    }
    let least = low;
    for (let i = low + 1; i <= high; i++) if (loss(i) < loss(least)) least = i;
    if (least === 0 || least === u.length - 1) return u[least];
    const [a, b, c] = [loss(least - 1), loss(least), loss(least + 1)], bend = a - 2 * b + c;
    return u[least] + (bend > 0 && bend < Infinity ? (u[least] - u[least - 1]) * (a - c) / (2 * bend) : 0);
  }

  /* [low, high] that holds the share `level` of the values. */
  function interval(values, level) {
    const sorted = Float64Array.from(values).sort(), last = sorted.length - 1;
    return [(1 - level) / 2, (1 + level) / 2].map((q) => sorted[Math.round(last * q)]);
  }

  /* The N that lose no more than `share` of the compute: [low, high] around the best. */
  function flat(asked, law, centre, share) {
    const worst = asked.loss(law, best(asked, law, 1 - share), 1 - share);
    const edge = (direction, reach) => {
      let near = 0, far = reach;
      for (let i = 0; i < 60; i++) {
        const middle = (near + far) / 2;
        if (asked.loss(law, centre + direction * middle) < worst) near = middle; else far = middle;
      }
      return Math.exp(centre + direction * (near + far) / 2);
    };
    const reach = Math.log(1e3);
    return [edge(-1, reach), edge(1, Math.max(0, Math.min(reach, asked.cap - centre)))];
  }

  const NAMES = ["E", "A", "B", "alpha", "beta", "k", "r_d", "r_n", "kinked"];

  /* Columns of the bootstrap's coefficients, those that do not vary too; at most `most` of them, evenly spread. */
  function columns(facts, most = Infinity) {
    const wide = facts.columns.length, all = facts.draws.length / wide, S = Math.min(all, most), laws = { S };
    for (const name of NAMES) {
      const k = facts.columns.indexOf(name);
      laws[name] = k < 0 && facts.law[name] === null ? null : new Float64Array(S).fill(facts.law[name]);
      if (k >= 0) for (let s = 0; s < S; s++) laws[name][s] = facts.draws[wide * Math.floor(s * all / S) + k];
    }
    const law = (s) => Object.fromEntries(NAMES.map((name) => [name, laws[name] && laws[name][s]]));
    laws.each = Array.from({ length: S }, (_, s) => law(s));
    return laws;
  }

  /* The answer to a wish, as scaling.planning.allocate gives it. Throws Impossible with a sentence for people. */
  function plan(facts, wish, laws) {
    const asked = problem(facts, wish), u = best(asked, facts.law), v = asked.logD(u);
    const N = Math.exp(u), D = Math.exp(v), perTokenFlops = Math.exp(asked.token(u).log);
    const C = perTokenFlops * D, serving = perTokenFlops * asked.spared, hours = (C + serving) / asked.hour.flops;
    const cost = (name) => (asked.hour[name] === null ? null : hours * asked.hour[name]);
    const answer = {
      N, D, C, loss: asked.loss(facts.law, u), tokens_per_parameter: D / N, binding: asked.binding, serving,
      device_hours: hours, usd: cost("usd"), kwh: cost("kwh"), kg_co2e: cost("kg_co2e"),
      epochs: given(wish.unique_tokens) ? D / wish.unique_tokens : null,
      flat: flat(asked, facts.law, u, 0.01), capped: N >= Math.exp(asked.cap) * (1 - 1e-9), intervals: null,
    };
    if (laws) answer.intervals = intervals(asked, wish, laws, u, v);
    return answer;
  }

  /* [low, high] of everything, over the draws of the law and, where ranges are given, of price and utilisation. */
  function intervals(asked, wish, laws, u, v) {
    const { hour, unique, facts } = asked, { S } = laws, varied = spread(facts, wish, hour, S), one = new Float64Array(S).fill(1);
    const { price, mfu } = varied || { price: one, mfu: one };
    const C = new Float64Array(S);
    for (let s = 0; s < S; s++) C[s] = varied ? affordable(hour, asked.budgets, price[s], mfu[s]).C : asked.C;
    const sizes = bestOfDraws(asked, laws, C), found = {};
    for (const name of ["N", "D", "C", "loss", "tokens_per_parameter", "device_hours", "usd", "kwh", "kg_co2e"]) found[name] = new Float64Array(S);
    for (let s = 0; s < S; s++) {
      const N = Math.exp(sizes[s]), token = Math.exp(asked.token(sizes[s]).log), D = C[s] / token - asked.spared;
      const hours = token * (D + asked.spared) / hour.flops / mfu[s];
      found.N[s] = N; found.D[s] = D; found.C[s] = token * D; found.tokens_per_parameter[s] = D / N; found.device_hours[s] = hours;
      found.loss[s] = varied ? lossAt(laws.each[s], sizes[s], Math.log(D), unique) : lossAt(laws.each[s], u, v, unique);
      for (const name of ["usd", "kwh", "kg_co2e"]) found[name][s] = hours * hour[name] * (name === "usd" ? price[s] : 1);
    }
    const ends = {};
    for (const [name, values] of Object.entries(found)) ends[name] = hour[name] === null ? null : interval(values, facts.level);
    return ends;
  }

  /* The loss at each log N of `sizes` under the fitted law, and the interval of the bootstrap there. */
  function curve(facts, wish, laws, sizes) {
    const asked = problem(facts, wish), line = sizes.map((u) => asked.loss(facts.law, u));
    if (!laws) return { line, low: null, high: null };
    const bands = sizes.map((u) => {
      const v = asked.logD(u), values = new Float64Array(laws.S);
      if (!(v > 0)) return [null, null];
      for (let s = 0; s < laws.S; s++) values[s] = lossAt(laws.each[s], u, v, asked.unique);
      return interval(values, facts.level);
    });
    return { line, low: bands.map((band) => band[0]), high: bands.map((band) => band[1]) };
  }

  return { plan, curve, columns, rates, Impossible };
})();
