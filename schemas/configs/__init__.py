"""One config per job, in a file named as its command: what YAML and the command line may say."""
