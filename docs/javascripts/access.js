// What the theme leaves out for readers who use no mouse.
document$.subscribe(({ body }) => {
  body.querySelector("[data-md-component=search]").setAttribute("aria-label", "Search")

  // A box that scrolls sideways can be reached, and then scrolled, by keyboard. The theme does so for code alone, takes
  // it back where there is no mouse, and makes some of these boxes late: hence the second observer.
  const boxes = "pre > code, .md-typeset__scrollwrap, div.arithmatex, .mermaid"
  const reach = (box) => {
    if (box.scrollWidth > box.clientWidth && !box.hasAttribute("tabindex")) box.tabIndex = 0
  }
  const sizes = new ResizeObserver((changes) => changes.forEach(({ target }) => reach(target)))
  const late = new MutationObserver((changes) => {
    for (const { target, addedNodes } of changes) {
      if (target.matches(boxes)) reach(target)
      for (const node of addedNodes) if (node.matches?.(boxes)) sizes.observe(node)
    }
  })
  const article = body.querySelector("article")
  article.querySelectorAll(boxes).forEach((box) => sizes.observe(box))
  late.observe(article, { subtree: true, childList: true, attributeFilter: ["tabindex"] })
})
