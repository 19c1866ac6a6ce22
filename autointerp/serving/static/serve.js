/* Under --serve: an edited explanation is scored by the run's simulator and judge, its cost asked first. */
"use strict";
if (typeof feature !== "undefined") feature.judge = (each, number, box) => {
  const out = para("caption");
  const send = async (agreed) => {
    const reply = await fetch("score", { method: "POST", body: JSON.stringify({ n: feature.n, explainer: site.explainers[each.explainer], text: box.value, agreed }) });
    return reply.json();
  };
  const ask = async (agreed) => {
    out.textContent = "Scoring …";
    const { calls, cost, scores, errors, error } = await send(agreed);
    if (calls) out.replaceChildren(`${whole(calls)} calls, ${cost}. `, step("Go on", "Score at this cost", false, () => run(true)));
    else out.textContent = error ?? [...Object.entries(scores).map(([name, value]) => `${scoreWords(name)} ${round(value, 3)}`), ...Object.entries(errors).map((pair) => visible(pair.join(": ")))].join("; ");
  };
  const run = (agreed) => ask(agreed).catch((error) => { out.textContent = error.message; });
  return [step("Score by the run’s simulator and judge", "Score the edited explanation", false, () => run(false)), out];
};
