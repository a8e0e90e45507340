"""How the layers that go are chosen: one module each, with its definition and source."""
