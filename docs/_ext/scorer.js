/* How the search ranks what it finds: as Sphinx does, but a title that has more of the words comes first. */
var Scorer = {
  score: ([docname, title, anchor, description, score]) => {
    const words = (new URLSearchParams(window.location.search).get("q") ?? "").toLowerCase().match(/[\w-]{3,}/g) ?? [];
    const found = words.filter((word) => title.toLowerCase().includes(word.replace(/s$/, "")));
    return score + 20 * found.length;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
