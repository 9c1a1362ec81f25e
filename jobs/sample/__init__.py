"""The bundled sample: citations invented for pubmark, in PubMed's XML form."""
