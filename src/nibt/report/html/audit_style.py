"""The style sheet of the page of an audit, without scripts or external resources."""

from nibt.report.colors import FAINT, INK, PALETTES, ink_on, on_paper
from nibt.report.html.audit_plots import VERDICT_COLORS, css

_SHADES = 20  # per sign; each has a class, since the page allows no style attributes


def shade(share: float) -> str:
    """Return the class of a word with that share of the largest score.

    >>> shade(1.0), shade(-0.5), shade(0.0)
    ('for20', 'against10', 'for0')
    """
    step = round(share * _SHADES)
    return f"{'for' if step >= 0 else 'against'}{abs(step)}"


def _shaded(share: float) -> str:
    red, green, blue = on_paper(share, PALETTES["red_blue"]).tolist()
    background = red, green, blue
    return f".words .{shade(share)}{{background:{css(background)};color:{css(ink_on(background))}}}"


_WORDS = "\n".join(_shaded(step / _SHADES) for step in range(-_SHADES, _SHADES + 1))
_CHIPS = "".join(f".{name}{{background:{css(color)}}}" for name, color in VERDICT_COLORS.items())
STYLE = f"""
:root{{color-scheme:light}}
body{{margin:0 auto;padding:2.2rem 1.4rem 3rem;max-width:66rem;background:white;color:{css(INK)};
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}}
h1{{font-size:1.9rem;line-height:1.2;margin:0}}
.certificate{{border:1px solid {css(INK, 0.25)};border-radius:6px;padding:.9rem 1.2rem .4rem;margin:.6rem 0 1.2rem}}
.certificate h3{{font-size:1rem;margin:.4rem 0 0}} .certificate ul{{margin:.1rem 0 .7rem;padding-left:1.2rem}}
.certificate pre{{margin:.2rem 0 .6rem;white-space:pre-wrap;overflow-wrap:anywhere}}
h2{{font-size:1.2rem;margin:2.6rem 0 .2rem;padding-top:1rem;border-top:1px solid {css(INK, 0.15)}}}
p{{margin:.2rem 0 .8rem;max-width:46rem}}
.faint,.tick,figcaption,.words th{{color:{css(FAINT)}}}
.tick{{font-size:10.5px;fill:{css(FAINT)}}}
table{{border-collapse:collapse}}
th{{text-align:left;font-weight:500}}
td,th{{padding:.3rem .9rem .3rem 0;vertical-align:middle}}
.lines td,.scores td{{border-bottom:1px solid {css(INK, 0.08)}}}
.lines thead th,.scores thead th{{font-size:.8rem;color:{css(FAINT)}}}
.number{{font-variant-numeric:tabular-nums;white-space:nowrap}}
.chip{{display:inline-block;min-width:2.6rem;text-align:center;border-radius:.6rem;padding:.05rem .55rem;color:white;
font-size:.82rem;font-weight:600}}
{_CHIPS}
.tiles,.plots,.summary{{display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start}}
.summary{{margin:1.2rem 0 0;gap:.7rem 1.6rem}}
figure{{margin:0;width:8.4rem}}
.plots figure{{width:auto}}
figure img{{width:8.4rem;border-radius:.25rem;display:block}}
figcaption{{font-size:.82rem;text-align:center;line-height:1.3;padding-top:.2rem}}
.plots figcaption{{text-align:left;color:{css(INK)}}}
.plots{{margin-top:1.2rem}}
.scores{{margin-bottom:1rem}}
.side{{margin:1.6rem 0 .2rem}}
.example{{margin:1.1rem 0 1.8rem}}
.words{{margin-top:.5rem;font-size:.9rem}}
.words span{{border-radius:.25rem;padding:.05rem .35rem}}
.words td,.words th{{padding:.15rem 1rem .15rem 0;font-weight:400}}
.scroll{{overflow-x:auto}}
{_WORDS}
.gauge{{display:block}}
ul{{padding-left:1.1rem}}
@media print{{tr,figure,.example,.summary{{break-inside:avoid}}h2,h3{{break-after:avoid}}
.chip,.words span{{print-color-adjust:exact;-webkit-print-color-adjust:exact}}}}
"""
