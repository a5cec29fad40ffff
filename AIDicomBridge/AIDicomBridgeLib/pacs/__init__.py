"""PACS connections: endpoints, clients for DIMSE and DICOMweb, and the built-in archive."""
