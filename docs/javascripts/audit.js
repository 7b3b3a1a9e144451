// Audits a network in the page. All words and numbers come from the package's own Python, which runs here in Pyodide:
// this script hands over the fields of the form, and puts the answer in place.
{
  const folder = new URL("../assets/python/", document.currentScript.src)
  const page = document.querySelector(".audit")
  const form = page.querySelector("form")
  const preset = form.querySelector("#audit-model")
  const part = (name) => page.querySelector(`[data-part=${name}]`)
  const text = (name) => page.querySelector(`[data-text=${name}]`)
  const linkTo = (query) => new URL(`?${query}`, location.origin + location.pathname)
  const fieldsOf = (query) => Object.fromEntries(new URLSearchParams(query))

  let sizes // bytes of each file to load
  let loading = false
  let ask // what answers, once Python runs: JSON in, JSON out
  let others = {} // what a link sets and the form does not have
  let linked // the fields of the link that the page was opened with, until they are answered or edited
  let edited // the control that was edited last
  let address // timer

  // ----- the form

  const words = () => {
    const data = new FormData(form)
    const given = [...new Set(data.keys())].map((name) => [name, data.getAll(name).join(",")])
    return { ...others, ...Object.fromEntries(given) }
  }

  const fill = ({ model, ...given }) => {
    const start = [...preset.options].find(({ value }) => value === model) ?? preset.options[0]
    form.reset()
    preset.value = start.value
    others = { ...given }
    for (const [name, value] of Object.entries({ ...fieldsOf(start.dataset.fields), ...given })) {
      const controls = [...form.elements].filter((control) => control.name === name)
      const values = value.split(/[,x×]/)
      controls.forEach((control, i) => {
        if (control.type === "radio") control.checked = control.value === value
        else control.value = controls.length === 1 ? value : values[i] ?? values[0]
      })
      if (controls.length) delete others[name]
    }
    const rest = Object.entries(others).map(([name, value]) => `${name}=${value}`)
    part("others").textContent = rest.length
      ? `Also set by the link: ${rest.join(", ")}. To start from a published network takes it back.`
      : ""
  }

  // ----- the answer

  const blame = (sentence = "") => {
    for (const box of form.querySelectorAll(".audit-error")) box.textContent = ""
    for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid")
    part("stale").hidden = !sentence
    page.classList.toggle("audit-old", Boolean(sentence))
    if (!sentence) return
    const name = sentence.match(/^(?:Unknown )?(\w+)/)[1] // "depth=0 is not possible", "Unknown model 'l9'"
    const field = form.querySelector(`[data-field="${name}"]`)
    if (!field) return part("error").append(sentence)
    field.querySelector(".audit-error").textContent = sentence
    const guilty = field.contains(edited) ? [edited] : field.querySelectorAll("input, select")
    for (const control of guilty) control.setAttribute("aria-invalid", "true")
  }

  const place = (found) => {
    for (const box of page.querySelectorAll("[data-piece]")) {
      box.innerHTML = found[box.dataset.piece]
      for (const table of box.querySelectorAll("table")) {
        // As the theme does with the tables of a page: a wide one scrolls in a box, which access.js lets be focused.
        const scrolls = Object.assign(document.createElement("div"), { className: "md-typeset__scrollwrap" })
        table.replaceWith(scrolls)
        scrolls.append(table)
      }
    }
    for (const name of ["yaml", "python"]) text(name).textContent = found[name]
    text("link").textContent = linkTo(found.link)
    const { model, resolution, form: _, counter, ...own } = fieldsOf(found.link)
    preset.value = Object.keys(own).length ? "" : model
  }

  const answerTo = (fields) => {
    try {
      return JSON.parse(ask(JSON.stringify(fields)))
    } catch (error) {
      return { error: `Python failed: ${error.message.trim().split("\n").at(-1)}` } // a fault of ours
    }
  }

  const update = () => {
    if (!ask) return start()
    const began = performance.now()
    const found = answerTo(linked ?? words())
    blame(found.error)
    if (!found.error) {
      place(found)
      if (linked) fill(fieldsOf(found.link))
      linked = undefined
      clearTimeout(address) // browsers allow few changes of the address in a short time
      address = setTimeout(() => history.replaceState(null, "", `?${found.link}${location.hash}`), 200)
    }
    page.dataset.milliseconds = performance.now() - began
  }

  // ----- Python

  const megabytes = (bytes) => (bytes / 1e6).toFixed(1)

  const download = async () => {
    const total = Object.values(sizes).reduce((sum, size) => sum + size)
    let done = 0
    const arrived = (bytes) => {
      done += bytes
      part("bar").value = done / total
      part("bytes").textContent = `${megabytes(done)} of ${megabytes(total)} MB`
    }
    const load = async ([name, size]) => {
      const address = new URL(name, folder)
      if (name.endsWith(".mjs")) return import(address).then((module) => (arrived(size), [name, module]))
      const response = await fetch(address)
      if (!response.ok) throw new Error(`${name}: ${response.status}`)
      const chunks = []
      for (let reader = response.body.getReader(), next; !(next = await reader.read()).done; ) {
        chunks.push(next.value)
        arrived(next.value.length)
      }
      return [name, new Blob(chunks, { type: name.endsWith(".wasm") ? "application/wasm" : "" })]
    }
    return Object.fromEntries(await Promise.all(Object.entries(sizes).map(load)))
  }

  const boot = async () => {
    const files = await download()
    part("bytes").textContent = "starting"
    // Pyodide fetches its files itself, and says nothing on the way: it is given those that are here already.
    const fetchReally = globalThis.fetch
    globalThis.fetch = async (address, ...rest) => {
      const file = files[String(address.url ?? address).split("/").pop()]
      return file ? new Response(file) : fetchReally(address, ...rest)
    }
    try {
      const python = await files["pyodide.mjs"].loadPyodide({ indexURL: folder.href })
      python.FS.writeFile("package.zip", new Uint8Array(await files["efficientformer_edu.zip"].arrayBuffer()))
      return python.runPython(`
        import json, sys
        sys.path.insert(0, "package.zip")
        from efficientformer_edu.plots.live import answer
        for _ in range(3):  # the first answers take longest: nobody waits for them here
            answer({})
        lambda fields: json.dumps(answer(json.loads(fields)))
      `)
    } finally {
      globalThis.fetch = fetchReally
    }
  }

  const start = async () => {
    if (loading) return
    loading = true
    part("state").textContent = "Python is being loaded."
    part("failure").textContent = ""
    part("again").hidden = true
    part("loading").hidden = part("stale").hidden = false
    page.classList.add("audit-old")
    try {
      ask = await boot()
      part("state").textContent = "Python runs in this page now: every edit is answered at once."
      update()
    } catch (error) {
      part("state").textContent = ""
      const reason = `Python could not be loaded (${error.message}).`
      part("failure").textContent = `${reason} Check the connection and try again; the tables below need no Python.`
      part("again").hidden = false
    }
    part("loading").hidden = true
    loading = false
  }

  // ----- what the reader does

  form.addEventListener("input", ({ target }) => {
    edited = target
    linked = undefined
    if (target === preset) {
      others = {}
      fill({ ...words(), ...fieldsOf(preset.selectedOptions[0].dataset.fields), model: preset.value })
    }
    update()
  })
  form.addEventListener("submit", (event) => event.preventDefault())
  part("again").addEventListener("click", start)

  form.addEventListener("click", async ({ target }) => {
    const name = target.dataset.copy
    if (!name) return
    part("copied").textContent = "" // so that the same words are spoken again
    try {
      await navigator.clipboard.writeText(text(name).textContent)
      part("copied").textContent = `Copied as ${target.textContent}.`
    } catch {
      page.querySelector("details").open = true
      part("copied").textContent = "This browser does not let the page copy. The text is at the end of the audit."
    }
  })

  // ----- the beginning: the form is shown where there is a Python to load

  const begin = async () => {
    const needs = document.querySelector(".audit-needs")
    needs.hidden = true
    const response = await fetch(new URL("sizes.json", folder)).catch(() => ({ ok: false }))
    if (!response.ok) {
      needs.hidden = false
      return
    }
    sizes = await response.json()
    part("size").textContent = `${megabytes(Object.values(sizes).reduce((sum, size) => sum + size))} MB`
    text("link").textContent = linkTo(text("link").textContent)
    page.hidden = false
    const { q, h, ...given } = fieldsOf(location.search) // without what the theme's search leaves in an address
    if (!Object.keys(given).length) return
    fill(given)
    linked = given
    update()
  }
  begin()
}
