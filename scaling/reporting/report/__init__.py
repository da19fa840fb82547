"""The report of a study: what was found, how sure it is, what to look at, how to make it again."""

from scaling.reporting.report.html import html as html
from scaling.reporting.report.html import page as page
from scaling.reporting.report.markdown import markdown as markdown
