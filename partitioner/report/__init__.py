"""Plans for people: as a document (JSON), as a page (HTML), and what differs between two."""
