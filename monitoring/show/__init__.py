"""How things look: words, colours, pictures, templates, tables, the command that does the same."""
