"""The imperative side: the cache, the queues, the run of a plan, the policy of errors. Knows no kind and no rule of the domain."""
