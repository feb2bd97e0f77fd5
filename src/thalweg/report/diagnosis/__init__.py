"""The page of a diagnosis: findings with the pictures that carry their evidence."""
