"""The report as a document: sections, languages, templates."""
