"""The report of a study: what was found, how sure it is, what to look at, how to make it again."""

from scaling.reporting.report.text import markdown as markdown
from scaling.reporting.report.web import html as html
