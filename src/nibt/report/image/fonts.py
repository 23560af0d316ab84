"""A font that has the signs of a text: Pillow's own for Latin, one of the system's for other scripts."""

from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_NAMES = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "Arial Unicode.ttf",
    "NotoEmoji-Regular.ttf",
    "Symbola.ttf",
)


def font_for(text: str, size: int) -> Font:
    """The first font that has all signs of the text; the first of all where none has."""
    fonts = _fonts(size)
    return next((font for font in fonts if all(_has(font, sign) for sign in set(text) if not sign.isspace())), fonts[0])


@lru_cache(maxsize=8)
def _fonts(size: int) -> tuple[Font, ...]:
    found: list[Font] = [ImageFont.load_default(size)]
    for name in _NAMES:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


@lru_cache(maxsize=4096)
def _has(font: Font, sign: str) -> bool:
    """Whether a sign has an image of its own, other than the box for a missing one."""
    return _drawn(font, sign) != _drawn(font, "\uffff")


def _drawn(font: Font, sign: str) -> bytes:
    """The pixels of one sign."""
    left, top, right, bottom = (round(edge) for edge in font.getbbox(sign))
    page = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(page).text((-left, -top), sign, 255, font)
    return page.tobytes()
