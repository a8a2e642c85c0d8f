"""Write the page anew."""

from tests.mistakes import PAGE, render

PAGE.write_text(render(), encoding="utf-8")
