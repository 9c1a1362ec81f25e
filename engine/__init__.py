"""The steps: reading, splitting, prompting, generating, aligning, storing. Imports schemas only."""
