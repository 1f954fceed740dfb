"""HTML pages that stand alone: blocks, template and style of the reports of evaluations and of studies."""
