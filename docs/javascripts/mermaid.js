// The theme draws diagrams with a global `mermaid`, and would fetch one from elsewhere where there is none. This stands
// in for it: Mermaid itself, from this site, is loaded when the first diagram is drawn.
{
  const folder = new URL("../assets/mermaid/", document.currentScript.src)
  let settings, loaded

  // Served, it comes in pieces, and a flowchart needs a quarter of them. From a folder a browser imports no pieces:
  // there it is one file, which puts the real `mermaid` in the place of this one until it is put back.
  const load = async () => {
    if (location.protocol === "file:") {
      const script = Object.assign(document.createElement("script"), { src: new URL("mermaid.min.js", folder) })
      await new Promise((done, failed) => {
        Object.assign(script, { onload: done, onerror: failed })
        document.head.append(script)
      })
    }
    const real = location.protocol === "file:" ? mermaid : (await import(new URL("mermaid.esm.min.mjs", folder))).default
    globalThis.mermaid = standIn
    real.initialize(settings)
    return real
  }

  // A diagram shrinks with its column, but only until its words are as large as the small print; then it scrolls.
  // A node with a colour of its own says which colour its words have. The theme's colour for words is that of the
  // scheme, and it sets it on the paragraph inside, where Mermaid's rule for the node does not reach.
  const readable = (svg) =>
    svg
      .replace(/max-width: ([\d.]+)px;/, (all, width) => `${all} min-width: ${0.7 * width}px;`)
      .replace(/(#\S+ \.\S+) span\{([^}]*!important)/g, "$1 span,$1 p{$2")

  const standIn = {
    initialize(given) {
      settings = given
    },
    async render(...diagram) {
      loaded ??= load()
      const { svg, ...rest } = await (await loaded).render(...diagram)
      return { ...rest, svg: readable(svg) }
    },
  }
  globalThis.mermaid = standIn
}
