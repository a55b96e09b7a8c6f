-- The health of a HeymarketWebhook, for Argo CD. It goes into the ConfigMap argocd-cm, or into the values of Argo CD's chart below configs.cm:
--
--   resource.customizations.health.heymarket.dev_HeymarketWebhook: |
--     <this file>

-- Reasons that pass by themselves, without a change by a person: everything else that is not True is a mistake or a breakdown.
local passing = {
  RolloutInProgress = true,
  NoReadyReplicas = true,
  ConfigurationPending = true,
  StatusUnreachable = true,
  AddressPending = true,
  CertificatePending = true,
  RoutePending = true,
  DurabilityUnknown = true,
  ScaledObjectPending = true,
  ReceiverEnding = true,
}

local health = { status = "Progressing", message = "The operator has not looked at it yet" }
if obj.metadata.deletionTimestamp ~= nil then
  health.message = "It is being deleted"
  return health
end
if obj.status == nil or obj.status.conditions == nil then
  return health
end
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Ready" and condition.observedGeneration == obj.metadata.generation then
    health.message = condition.message
    if condition.status == "True" then
      health.status = "Healthy"
      if obj.spec.paused then
        health.status = "Suspended"
        health.message = "It is paused: events are stored, and none is delivered"
      end
    elseif condition.status == "False" and not passing[condition.reason] then
      health.status = "Degraded"
    end
  end
end
return health
