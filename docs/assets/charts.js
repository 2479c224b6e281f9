// Charts come as pictures with their specification beside them. Where a page has any, Vega is loaded, and each picture
// becomes a chart to play with.
const charts = document.querySelectorAll("div.chart");
if (charts.length) {
  const vega = document.createElement("script");
  vega.src = new URL("vega.js", document.currentScript.src);
  vega.onload = () => charts.forEach(async (chart) => {
    const place = document.createElement("div");
    chart.append(place);
    const spec = JSON.parse(chart.querySelector("script").textContent);
    const {view} = await vegaEmbed(place, spec, {actions: false, renderer: "svg"});
    chart.querySelector("p")?.remove();         // the picture
    chart.view = view;
  });
  document.head.append(vega);
}
