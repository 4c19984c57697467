"""Steps of units and stacks as programs of a small compiled machine: what `core.streaming` and every unit's
own `step` run on."""
