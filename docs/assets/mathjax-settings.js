// Typesets what Markdown has marked as TeX, and nothing else; without the menu, whose parts come from a network.
window.MathJax = {
  tex: {inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]], processEscapes: true},
  svg: {fontCache: "global"},
  options: {ignoreHtmlClass: ".*", processHtmlClass: "arithmatex", enableMenu: false},
};
