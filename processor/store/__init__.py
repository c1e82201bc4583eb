"""DynamoDB: table specifications, and readings written and read back."""
