"""The documents, and in ``generate`` what makes those parts of them that repeat the code or measurements."""
