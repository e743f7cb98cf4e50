"""What people look at: trees, waterfalls, histories and the fleet, made from the results topic, the API server and Redis. Nothing here writes."""
