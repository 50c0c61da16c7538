"""Own photographs: reading them, finding brackets, previews."""
