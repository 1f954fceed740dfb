"""Simulated multi-contrast MRI: tissue, lesions, an MDME acquisition and six conventional scans."""
