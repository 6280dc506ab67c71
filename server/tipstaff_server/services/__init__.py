"""The services of the contract: requests become calls on the registry, results become messages."""
