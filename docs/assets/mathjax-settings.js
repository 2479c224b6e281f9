// Typesets what Markdown has marked as TeX, and nothing else; without the menu, whose parts come from a network. Where a
// page has no formulas, MathJax is not loaded.
window.MathJax = {
  tex: {inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]], processEscapes: true},
  svg: {fontCache: "global"},
  options: {ignoreHtmlClass: ".*", processHtmlClass: "arithmatex", enableMenu: false},
};
if (document.querySelector(".arithmatex")) {
  const mathjax = document.createElement("script");
  mathjax.src = new URL("mathjax.js", document.currentScript.src);
  document.head.append(mathjax);
}
