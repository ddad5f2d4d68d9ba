"""The machinery of the methods: schema, registry, sites, attaching, and what a method may ask of training."""
