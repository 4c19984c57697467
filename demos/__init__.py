"""Web demos and the quickstart report: one page and one section a pipeline, found by the name of their files.

A pipeline has two files here, and nothing else is edited:

`demos/pages/<word>.py`, the page, with

    HEADLINE = Headline(...)        # the figure on the hub's card: two scores in the card of bundled weights
    def build() -> gr.Blocks: ...   # `recurra demo <word>` serves it under /, the hub under /<word>

`demos/sections/<word>.py`, its part of `out/report.html`, with

    def section(seed: int) -> Section: ...

and may have a picture for its card, `demos/pictures/<word>.svg` (colours as `var(--r-ours)`, `var(--r-ink)`).
Both call the pipeline's public functions and compute nothing themselves. `trajectory` is the pattern.

A page, from the top: its question as `<h1>`, one sentence with the formats; left (`elem_classes="r-left"`)
an example, the drop zone, the two controls that matter, the rest in a closed accordion; right
(`"r-right"`) the stat row, the main picture, a second one, a closed accordion with the table.

    @once                               # demos.first: the newest results are kept, the first costs once
    def answer(path, changed_ns, example): ...

    @said                               # demos.uploads: expected failures are a sentence on the page
    def show(file, example):
        found = answer(...)             # a file passes through `uploaded(file)` first
        stats = [Stat("0.26 m", "off after 1 s", ours=True), Stat("1.69 m", "constant velocity")]
        return stat_row(stats), figure  # demos.markup

    with gr.Blocks(title="Recurra: <word>", analytics_enabled=False) as page:
        gr.HTML("<h1>Where will it be?</h1><p class='r-lead'>...</p>", padding=False)
        with gr.Row():
            with gr.Column(elem_classes="r-left"): ...
            with gr.Column(elem_classes="r-right"):
                figures = gr.HTML(elem_id="stats", padding=False)
        answers(page, show, inputs, [figures, ...],         # demos.answering: it opens with a result
                [example.change, slider.change, file.change], word="<word>", name="predict")

Every event has an `api_name` that no other page has and waits in a queue that begins with the page's word
(`"<word>"`, `"<word> long"`); every file input and picture has an `elem_id`, every block a label. Long work
says where it stands (`demos.progress.stands`), comes as a generator, and has a Stop beside its button.

Plots: `figure.update_layout(template=template())` for plotly (`demos.plots`; flat plots follow light and dark
by themselves; in 3-D take colours that are seen on both, and `demos.camera.fitted`); `with drawing() as
(figure, axes)` and `svg(figure, alt)` for pictures that page (`gr.HTML`) and report share. What tells more if
it is picked is a shape of an SVG in `gr.HTML(js_on_load=sheet("pick.js"))`. The model is OURS and thick, the
truth TRUTH, others BASELINE; the title says the finding. A patch of colour in the stat row
(`Stat(colour=...)`) stands for a legend.
"""
